#!/bin/bash
# What every node of the job does: look at itself, meet the others, start its ranks. srun starts it once per node.
set -euo pipefail

RUN='/home/me/runs,=2024/~a+b@c/v1.0:x'
PYTHON=/env/bin/python
trap '' USR1 USR2                             # torchrun would die of them; the ranks take them by themselves
export HF_HUB_OFFLINE=1
export WANDB_MODE=offline
export TRACKIO_SPACE_ID=''
export TRACKIO_SERVER_URL=''
export OMP_NUM_THREADS=8
export OMP_WAIT_POLICY=PASSIVE
export PYTORCH_ALLOC_CONF=expandable_segments:True

# GPUs, versions, disks, clocks, the way to the other nodes; a node that is bad is named, and the job leaves it.
MASTER_PORT=$("$PYTHON" -m launcher.worker.preflight "$RUN" "$LAUNCHER_ATTEMPT")
export MASTER_PORT

exec "$PYTHON" \
  -m launcher.worker.torchrun \
  --standalone \
  --nproc-per-node 4 \
  --signals-to-handle SIGTERM,SIGINT,SIGHUP,SIGQUIT \
  --shutdown-timeout 600 \
  -m launcher.worker "$RUN"
