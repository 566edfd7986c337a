#!/bin/bash
#SBATCH --job-name={{job_name}}
#SBATCH --array={{array}}
#SBATCH --nodes={{nodes}}
#SBATCH --ntasks-per-node={{tasks_per_node}}
#SBATCH --cpus-per-task={{cpus}}
#SBATCH --time={{time}}
#SBATCH --signal=TERM@{{signal_seconds}}
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --kill-on-invalid-dep=yes
#SBATCH --output=logs/%A_%a.out
{{options}}
# One element of this array trains the runs in line SLURM_ARRAY_TASK_ID + 1 of runs.txt beside this script: one run, or
# several of one shape together as a pack. Submit it by hand from its own folder with `sbatch array.sh`, or better again
# through launch.py, which leaves out what is complete and forms packs anew.
# What is true about a run is in its directory (result.json); Slurm's states are only a hint.

batch={{batch}}
sweep={{sweep}}
cd {{project}} || exit 1
{{environment}}
{{setup}}
read -ra runs <<<"$(sed -n "$((SLURM_ARRAY_TASK_ID + 1))p" "$batch/runs.txt")"
[ ${#runs[@]} -gt 0 ] || { echo "error: $batch/runs.txt has no line $((SLURM_ARRAY_TASK_ID + 1))" >&2; exit 2; }
[ -e "$batch/cancelled" ] && { echo "${runs[*]}: cancelled"; exit 0; }
trap : TERM # this shell waits for the runs to save; srun, because Slurm tells only steps of a preemption
left=()
for run in "${runs[@]}"; do left+=("$sweep/$run"); done
# Where this node's python3 cannot say what is left, the program itself passes over what is complete.
names=$(python3 -m core.left "${left[@]}") && mapfile -t left <<<"$names"
[ -n "${left[0]}" ] || { echo "${runs[*]}: already complete"; exit 0; }
program=training.run
[ ${#left[@]} = 1 ] || program=training.pack

srun --unbuffered --kill-on-bad-exit=1 --cpus-per-task={{cpus}} {{container}}{{python}} -m $program "${left[@]}" \
  --cache {{cache}} --checkpoint-seconds {{checkpoint_seconds}} --lock-patience-seconds 90{{run_options}}
status=$?

# 75: saved and resumable. 143: the signal came before the run could hear it; its last checkpoint stands.
if [ "$status" = 75 ] || [ "$status" = 143 ]; then
  # This element by its own name: the last one to start carries the number of the array, which would name them all.
  me=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID
  until state=$(squeue --noheader --jobs="$me" --format=%T) && [ -n "$state" ]; do sleep 2; done
  # Only what is RUNNING is requeued. What scancel ends is COMPLETING, and Slurm would obey; what is preempted without
  # grace is COMPLETING too, and Slurm itself brings it back.
  if [ -e "$batch/cancelled" ] || [ "$state" != RUNNING ]; then exit "$status"; fi
  if [ "${SLURM_RESTART_COUNT:-0}" -ge {{most_restarts}} ]; then
    echo "error: ${left[*]##*/}: stopped $SLURM_RESTART_COUNT times and is not done; submit again to go on" >&2
    exit 1
  fi
  for _ in $(seq 30); do # the controller may be away for a while
    scontrol requeue "$me" && sleep 600 # no exit: the requeue ends this shell
    sleep 2
  done
fi
exit "$status"
