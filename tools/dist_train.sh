#!/usr/bin/env bash
# Trains on several GPUs of one machine:
#   tools/dist_train.sh CONFIG GPUS [arguments of tools/train.py]
# More machines: set NNODES, NODE_RANK, MASTER_ADDR and MASTER_PORT on each.
# MAX_RESTARTS=3 with --resume: if a process dies, all restart, up to 3 times.
set -euo pipefail
if [ $# -lt 2 ]; then
    sed -n '2,5s/^# //p' "$0" >&2
    exit 2
fi
config=$1 gpus=$2
shift 2
exec torchrun --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${MASTER_PORT:-${PORT:-29500}}" --nproc_per_node="$gpus" \
    --max_restarts="${MAX_RESTARTS:-0}" \
    "$(dirname "$0")/train.py" "$config" --launcher pytorch "$@"
