#!/bin/bash
#SBATCH --chdir=/home/me
#SBATCH --cpus-per-task=2
#SBATCH --export=ALL
#SBATCH --job-name=smoke-controller-ab12
#SBATCH --mem=4000M
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --open-mode=append
#SBATCH --output=/store/sweeps/smoke/controller/smoke-controller-ab12.log
#SBATCH --signal=B:USR2@300
#SBATCH --time=1440
#SBATCH --requeue

# Only these variables cross from the submitting shell: PATH, HOME, USER, LOGNAME, SHELL, LANG, TZ, VIRTUAL_ENV, PYTHONPATH, OMP_NUM_THREADS, LC_*, SLURM_CONF.
set -e
umask 077

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
