#!/bin/bash

# Parameters
#SBATCH --array=0-1%2
#SBATCH --chdir=/store/sweeps/smoke/submissions/smoke-t1-0001
#SBATCH --cpus-per-task=8
#SBATCH --error=/store/sweeps/smoke/submissions/smoke-t1-0001/%A_%a_0_log.err
#SBATCH --export=ALL
#SBATCH --gpus-per-node=1
#SBATCH --job-name=smoke-t1-0001
#SBATCH --mem=64000M
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --open-mode=append
#SBATCH --output=/store/sweeps/smoke/submissions/smoke-t1-0001/%A_%a_0_log.out
#SBATCH --partition=gpu
#SBATCH --requeue
#SBATCH --signal=USR2@180
#SBATCH --time=240

# setup
# Only these variables cross from the submitting shell: PATH, HOME, USER, LOGNAME, SHELL, LANG, TZ, VIRTUAL_ENV, PYTHONPATH, HF_HOME, OMP_NUM_THREADS, LC_*, SLURM_CONF.
set -e
umask 077

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output /store/sweeps/smoke/submissions/smoke-t1-0001/%A_%a_%t_log.out --error /store/sweeps/smoke/submissions/smoke-t1-0001/%A_%a_%t_log.err --export=ALL --kill-on-bad-exit=1 --open-mode=append --cpus-per-task=8 apptainer exec --nv --bind=/shared /shared/images/orchestrator.sif python3 -P -u -m cluster.executors._slurm_job /store/sweeps/smoke/submissions/smoke-t1-0001
