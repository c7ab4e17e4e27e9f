#!/bin/bash
#SBATCH --account=my_project
#SBATCH --chdir=/home/me
#SBATCH --cpus-per-task=1
#SBATCH --export=ALL
#SBATCH --job-name=smoke-controller-ab12
#SBATCH --mem=2000M
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --open-mode=append
#SBATCH --output=/store/sweeps/smoke/controller/smoke-controller-ab12.log
#SBATCH --partition=cpu
#SBATCH --qos=long
#SBATCH --signal=B:USR2@60
#SBATCH --time=600
#SBATCH --requeue

# Only these variables cross from the submitting shell: PATH, HOME, USER, LOGNAME, SHELL, LANG, TZ, VIRTUAL_ENV, PYTHONPATH, HF_HOME, OMP_NUM_THREADS, LC_*, SLURM_CONF.
set -e
umask 077
if [ "$(type -t module)" = '' ]; then set +e; . /etc/profile; set -e; fi
module load cuda/12.4
module load apptainer
export NCCL_DEBUG=WARN

export ORCHESTRATOR_CONTROLLER=smoke-controller-ab12
again=
trap 'again=1; kill -TERM "$!" 2>/dev/null || true' USR2  # the time limit is near
trap 'kill -TERM "$!" 2>/dev/null || true' TERM
PYTHON -P -u -m orchestrator sweep '/home/me/it'"'"'s.yaml' --root=/store '--set=domain=[code, web]' &
code=0; wait "$!" || code=$?
while kill -0 "$!" 2>/dev/null; do  # a signal ends a wait
    code=0; wait "$!" || code=$?
done
if [ -n "$again" ] && [ "$code" -gt 6 ]; then
    until scontrol requeue "$SLURM_JOB_ID"; do sleep 5; done
fi
exit "$code"
