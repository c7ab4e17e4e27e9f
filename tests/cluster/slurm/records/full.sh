#!/bin/bash

# Parameters
#SBATCH --account=my_project
#SBATCH --array=0-1%2
#SBATCH --chdir='/store/sweeps/smoke/submissions/it'"'"'s smoke-t1-0001'
#SBATCH --constraint='a100&nvlink'
#SBATCH --cpus-per-task=8
#SBATCH --error='/store/sweeps/smoke/submissions/it'"'"'s smoke-t1-0001/%A_%a_0_log.err'
#SBATCH --exclusive
#SBATCH --export=ALL
#SBATCH --gpus-per-node=a100:4
#SBATCH --job-name=smoke-t1-0001
#SBATCH --mem=64000M
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --open-mode=append
#SBATCH --output='/store/sweeps/smoke/submissions/it'"'"'s smoke-t1-0001/%A_%a_0_log.out'
#SBATCH --partition=gpu,gpu_short
#SBATCH --qos=normal
#SBATCH --requeue
#SBATCH --reservation='night shift'
#SBATCH --signal=USR2@180
#SBATCH --time=240

# setup
# Only these variables cross from the submitting shell: PATH, HOME, USER, LOGNAME, SHELL, LANG, TZ, VIRTUAL_ENV, PYTHONPATH, HF_HOME, OMP_NUM_THREADS, RUN, LC_*, SLURM_CONF.
set -e
umask 077
if [ "$(type -t module)" = '' ]; then set +e; . /etc/profile; set -e; fi
module load cuda/12.4
module load apptainer
export TMPDIR="/scratch/$USER/orchestrator-$SLURM_JOB_ID"
export NCCL_DEBUG=WARN

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output '/store/sweeps/smoke/submissions/it'"'"'s smoke-t1-0001/%A_%a_%t_log.out' --error '/store/sweeps/smoke/submissions/it'"'"'s smoke-t1-0001/%A_%a_%t_log.err' --export=ALL --kill-on-bad-exit=1 --open-mode=append --cpus-per-task=8 apptainer exec --nv '--bind=/shared data' /shared/images/orchestrator.sif python3 -P -u -m cluster.executors._slurm_job '/store/sweeps/smoke/submissions/it'"'"'s smoke-t1-0001'

