#!/bin/bash

# Parameters
#SBATCH --array=0-1%2
#SBATCH --chdir='/store/sweeps/smoke/submissions/it'"'"'s smoke-t1-0001'
#SBATCH --cpus-per-task=1
#SBATCH --error='/store/sweeps/smoke/submissions/it'"'"'s smoke-t1-0001/%A_%a_0_log.err'
#SBATCH --export=ALL
#SBATCH --job-name=smoke-t1-0001
#SBATCH --mem=64000M
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=8
#SBATCH --open-mode=append
#SBATCH --output='/store/sweeps/smoke/submissions/it'"'"'s smoke-t1-0001/%A_%a_0_log.out'
#SBATCH --requeue
#SBATCH --signal=USR2@120
#SBATCH --time=240

# setup
# Only these variables cross from the submitting shell: PATH, HOME, USER, LOGNAME, SHELL, LANG, TZ, VIRTUAL_ENV, PYTHONPATH, OMP_NUM_THREADS, RUN, LC_*, SLURM_CONF.
set -e
umask 077

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output '/store/sweeps/smoke/submissions/it'"'"'s smoke-t1-0001/%A_%a_%t_log.out' --error '/store/sweeps/smoke/submissions/it'"'"'s smoke-t1-0001/%A_%a_%t_log.err' --export=ALL --kill-on-bad-exit=1 --open-mode=append --cpus-per-task=1 PYTHON -P -u -m cluster.executors._slurm_job '/store/sweeps/smoke/submissions/it'"'"'s smoke-t1-0001'

