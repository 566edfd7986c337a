#!/usr/bin/env bash
# A real Slurm on the loopback address: munged, slurmctld, three slurmd and, with SACCT=1, slurmdbd over MariaDB.
# Needs root and Debian's packages (installed here when missing; `up.sh install` stops after that). Everything lies under
# $SLURM_TEST_DIR; down.sh ends it.
set -euo pipefail
root=${SLURM_TEST_DIR:?where to put the cluster}
sacct=${SACCT:-0}
nodes=3 cores=4 port=${SLURM_TEST_PORT:-27817}
here=$(hostname -s)

packages=(slurmctld slurmd slurm-client munge)
[ "$sacct" = 0 ] || packages+=(slurmdbd mariadb-server)
missing=()
for package in "${packages[@]}"; do dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package"); done
if [ ${#missing[@]} -gt 0 ]; then
  apt-get update -qq >&2
  # 101 keeps the packages' own services from starting.
  policy=/usr/sbin/policy-rc.d
  if [ ! -e $policy ]; then printf '#!/bin/sh\nexit 101\n' >$policy; chmod 755 $policy; trap 'rm -f /usr/sbin/policy-rc.d' EXIT; fi
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
fi

[ "${1:-}" != install ] || exit 0

[ ! -e "$root/pids" ] || { echo "$root holds a cluster already: run down.sh first" >&2; exit 1; }
mkdir -p "$root"/{etc,log,run,state,munge}
chmod 755 "$root" "$root"/*
: >"$root/pids"
note() { cat "$1" >>"$root/pids"; }
until_true() { for _ in $(seq 150); do "$@" >/dev/null 2>&1 && return; sleep .1; done; echo "gave up on: $*" >&2; return 1; }

# The nodes' names must resolve: JAX asks for its coordinator by the name that Slurm gives it.
for name in "$here" n1 n2 n3; do
  getent hosts "$name" | grep -q '^127\.\|^::1' || echo "127.0.0.1 $name # slurm-test" >>/etc/hosts
done

head -c 128 /dev/urandom >"$root/munge/key"
chmod 600 "$root/munge/key"
munged --key-file="$root/munge/key" --socket="$root/munge/socket" --pid-file="$root/run/munged.pid" \
  --log-file="$root/log/munged.log" --seed-file="$root/munge/seed"
note "$root/run/munged.pid"

accounting="AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none"
[ "$sacct" = 0 ] || accounting="AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=$((port + 2))
AccountingStoragePass=$root/munge/socket
JobAcctGatherType=jobacct_gather/linux"

# Three slurmd on one machine, each pretending to be its own; no cgroups, no systemd; short waits for short tests.
# cred_expire is also how long a requeued job is held back; below 5 Slurm takes its default, 120.
cat >"$root/etc/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$here(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$root/munge/socket,cred_expire=5
CredType=cred/munge
SlurmctldPort=$port
SlurmctldPidFile=$root/run/slurmctld.pid
SlurmdPidFile=$root/run/slurmd.%n.pid
StateSaveLocation=$root/state
SlurmdSpoolDir=$root/spool/%n
SlurmctldLogFile=$root/log/slurmctld.log
SlurmdLogFile=$root/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
MailProg=/bin/true
LaunchParameters=disable_send_gids
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
TreeWidth=65533
$accounting
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0,sched_min_interval=0,requeue_delay=0
KillWait=30
SlurmdTimeout=10
SlurmctldTimeout=30
InactiveLimit=0
OverTimeLimit=0
ReturnToService=2
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=n[1-$nodes] NodeHostname=$here NodeAddr=127.0.0.1 Port=$((port + 10))-$((port + 9 + nodes)) Sockets=1 CoresPerSocket=$cores ThreadsPerCore=1 RealMemory=8000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=1-0 State=UP PriorityTier=10 PreemptMode=off
PartitionName=grace Nodes=ALL MaxTime=1-0 State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=60
PartitionName=abrupt Nodes=ALL MaxTime=1-0 State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=0
PartitionName=urgent Nodes=ALL MaxTime=1-0 State=UP PriorityTier=100 PreemptMode=off
CONF
echo "CgroupAutomount=no" >"$root/etc/cgroup.conf"
export SLURM_CONF=$root/etc/slurm.conf

if [ "$sacct" = 1 ]; then
  mkdir -p "$root/db/data"
  chown -R mysql:mysql "$root/db"
  mariadb-install-db --no-defaults --user=mysql --datadir="$root/db/data" --skip-test-db \
    --auth-root-authentication-method=socket >"$root/log/install-db.log" 2>&1
  setsid -f mariadbd --no-defaults --user=mysql --datadir="$root/db/data" --socket="$root/db/socket" \
    --skip-networking --pid-file="$root/db/pid" --innodb-buffer-pool-size=64M --innodb-log-file-size=32M \
    >"$root/log/mariadb.log" 2>&1 </dev/null
  until_true mariadb-admin --no-defaults -S "$root/db/socket" ping
  note "$root/db/pid"
  mariadb --no-defaults -S "$root/db/socket" -e "create database accounting;
    create user slurm@localhost identified by 'test'; grant all on accounting.* to slurm@localhost;"
  cat >"$root/etc/slurmdbd.conf" <<CONF
AuthType=auth/munge
AuthInfo=socket=$root/munge/socket
DbdHost=$here
DbdAddr=127.0.0.1
DbdPort=$((port + 2))
SlurmUser=root
PidFile=$root/run/slurmdbd.pid
LogFile=$root/log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=slurm
StoragePass=test
StorageLoc=accounting
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
CONF
  chmod 600 "$root/etc/slurmdbd.conf"
  MYSQL_UNIX_PORT="$root/db/socket" slurmdbd
  until_true grep -q 'slurmdbd version .* started' "$root/log/slurmdbd.log"
  note "$root/run/slurmdbd.pid"
  until_true sacctmgr -i add cluster test
fi

# No job of the outside reaches in.
unset SLURM_JOB_ID SLURM_JOBID
slurmctld -c -f "$SLURM_CONF"
until_true test -s "$root/run/slurmctld.pid"
note "$root/run/slurmctld.pid"
for node in $(seq $nodes); do
  mkdir -p "$root/spool/n$node"
  slurmd -N "n$node" -f "$SLURM_CONF"
  until_true test -s "$root/run/slurmd.n$node.pid"
  note "$root/run/slurmd.n$node.pid"
done
all_idle() { [ "$(timeout 5 sinfo -h -p main -t idle -o %D)" = $nodes ]; }
until_true all_idle
echo "a Slurm of $nodes nodes is up: SLURM_CONF=$SLURM_CONF" >&2
