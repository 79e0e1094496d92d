#!/usr/bin/env bash
# Trains in a Slurm allocation, a process for each of its tasks:
#   sbatch --nodes=2 --ntasks-per-node=8 --gpus-per-node=8 --cpus-per-task=5 \
#       tools/slurm_train.sh CONFIG [arguments of tools/train.py]
# Ended by a time limit or preempted, it resumes where it stopped when it is
# submitted (or requeued) again.
set -euo pipefail
if [ $# -lt 1 ]; then
    sed -n '2,6s/^# //p' "$0" >&2
    exit 2
fi
cd "${SLURM_SUBMIT_DIR:-.}"  # sbatch runs a copy of this file
exec srun --kill-on-bad-exit=1 \
    ${SLURM_CPUS_PER_TASK:+--cpus-per-task="$SLURM_CPUS_PER_TASK"} \
    python tools/train.py "$@" --launcher slurm --resume
