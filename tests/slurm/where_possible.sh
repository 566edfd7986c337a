#!/usr/bin/env bash
# The scenarios on a real Slurm where this machine lets it install, within SECONDS_ALLOWED; says plainly where it could
# not. Ends with the tests' own status, and with 0 where they could not be run or did not end in time.
# usage: where_possible.sh PYTHON
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
python=${1:?the interpreter of the project}
allowed=${SECONDS_ALLOWED:-300}
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "NOT RUN: the tests on a real Slurm need root and apt to install it"
  exit 0
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! SACCT=1 SLURM_TEST_DIR=$log.d timeout -k 10 300 bash tests/slurm/up.sh install >"$log" 2>&1; then
  echo "NOT RUN: the tests on a real Slurm could not install it: $(tail -n 1 "$log")"
  exit 0
fi
# INT, so that what was started is also ended.
SECONDS=0
timeout -s INT -k 200 "$allowed" "$python" -m pytest -x -q tests/slurm/scenarios.py
status=$?
# Its statuses 124 and 137 are also those of a command that ends so by itself, or is killed by another's hand.
if [ "$SECONDS" -ge "$allowed" ] && { [ "$status" = 124 ] || [ "$status" = 137 ]; }; then
  echo "NOT RUN TO THE END: the tests on a real Slurm took longer than $allowed seconds here"
  exit 0
fi
exit "$status"
