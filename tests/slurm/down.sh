#!/usr/bin/env bash
# Ends what up.sh has started, by the process ids that it noted and no others, newest first.
set -u
root=${SLURM_TEST_DIR:?where the cluster is}
export SLURM_CONF=$root/etc/slurm.conf
[ -e "$root/pids" ] || exit 0
# A zombie is dead: nobody may be there to bury it.
alive() { [ -e "/proc/$1/status" ] && ! grep -q '^State:[[:space:]]*Z' "/proc/$1/status"; }
if timeout 5 squeue -h >/dev/null 2>&1; then # jobs first, so that no step outlives its daemon
  timeout 10 scancel --state=PENDING -u "$(id -un)"
  timeout 10 scancel -u "$(id -un)"
  for _ in $(seq 60); do [ -z "$(timeout 5 squeue -h 2>/dev/null)" ] && break; sleep .5; done
fi
# Daemons that a test has started anew have left their new ids in run/.
for pid in $(cat "$root"/run/slurmd.*.pid "$root"/run/slurmctld.pid 2>/dev/null) $(tac "$root/pids"); do
  case "$(cat "/proc/$pid/comm" 2>/dev/null)" in slurmd | slurmctld | slurmdbd | munged | mariadbd) ;; *) continue ;; esac
  kill "$pid" 2>/dev/null
  for _ in $(seq 50); do alive "$pid" || break; sleep .1; done
  if alive "$pid"; then kill -9 "$pid"; fi
done
rm -f "$root/pids"
grep -v '# slurm-test$' /etc/hosts >"$root/hosts" && cat "$root/hosts" >/etc/hosts # in place: it may be a bind mount
