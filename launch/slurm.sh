#!/usr/bin/env bash
# Runs one command on every node of a Slurm job, from an environment that has apo_jax installed:
#
#   sbatch --nodes=2 --gpus-per-node=8 launch/slurm.sh --config=configs/demo.py --run_dir=runs/demo
#
# --run_dir must be on a file system that all nodes share. A job that is requeued continues.
#SBATCH --job-name=apo_jax
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

if (($# == 0)); then
  echo 'slurm.sh: the arguments of the run are missing, like --config=configs/demo.py.' >&2
  exit 2
fi

# On its own JAX gives a Slurm task one GPU; here a task is a whole node.
if [[ -n ${SLURM_GPUS_ON_NODE:-} ]]; then
  JAX_LOCAL_DEVICE_IDS=$(seq -s, 0 $((SLURM_GPUS_ON_NODE - 1)))
  export JAX_LOCAL_DEVICE_IDS
fi

srun --ntasks-per-node=1 --kill-on-bad-exit=1 python -m apo_jax.main "$@" --distributed
