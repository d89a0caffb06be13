#!/bin/sh
# What the images of Dockerfile and launcher.def hold, said once. They run it as root, in a folder with the project, on
# Debian with Python. The versions are those of constraints.txt; CUDA comes with torch's own wheels.
set -eu

# gcc: Triton compiles a few lines of C when a kernel first runs. The others: InfiniBand, which NCCL loads where it is.
apt-get update
apt-get install -y --no-install-recommends gcc libc6-dev libibverbs1 ibverbs-providers librdmacm1
rm -rf /var/lib/apt/lists/*

python -m pip install --no-cache-dir -c constraints.txt '.[train,eval,zero,near,slurm,tracking]'
