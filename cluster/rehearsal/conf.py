"""The text of a rehearsal's configuration files. Pure: what is shown is what runs.

Every path goes through `Rehearsal.home`, so that no file name a person chose ever meets slurm.conf's own syntax.
"""

from __future__ import annotations

from cluster.rehearsal.describe import MAIN, URGENT, Preemption, Rehearsal, Shape

GRACE_S = 5
"""Seconds from a preemption's first signal to SIGTERM; Slurm's clock for it ticks about every 30 s."""
KILL_WAIT_S = 5
"""Seconds from SIGTERM to SIGKILL (Slurm's default is 30)."""
MESSAGE_TIMEOUT_S = 10
MAX_ARRAY_SIZE = 1001
PREEMPT_PARAMETERS_SINCE = (23, 2)
"""Release of Slurm that moved the options of preemption to a key of their own."""


def slurm_conf(rehearsal: Rehearsal) -> str:
    """Return slurm.conf. Why a value is what it is stands beside it in the file, for whoever reads it there."""
    home, shape = rehearsal.home, rehearsal.shape
    mode = "REQUEUE" if shape.preemption is Preemption.REQUEUE else "CANCEL"
    return f"""\
# Rehearsal {rehearsal.name}: written by `orchestrator rehearsal up`, gone with `orchestrator rehearsal down`.
ClusterName=rehearsal
SlurmctldHost=localhost(127.0.0.1)
SlurmUser={rehearsal.user}
SlurmdUser={rehearsal.user}
SlurmctldPort={rehearsal.controller_port}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny

# Its own munge; a short life of credentials, because a requeued job waits for theirs to end.
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={rehearsal.munge_socket},cred_expire=5

StateSaveLocation={home}/state
SlurmdSpoolDir={home}/spool/%n
SlurmctldPidFile={home}/run/slurmctld.pid
SlurmdPidFile={home}/run/slurmd.%n.pid
SlurmctldLogFile={rehearsal.logs}/slurmctld.log
SlurmdLogFile={rehearsal.logs}/slurmd.%n.log
SlurmctldSyslogDebug=quiet
SlurmdSyslogDebug=quiet

# Several nodes on one machine, with as many CPUs and as much memory as one likes.
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
{_accounting(rehearsal)}
# A job that uses more memory than it asked for is killed.
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill

{_pace(shape)}
# A job of {URGENT} takes the nodes of jobs of {MAIN}.
PreemptType=preempt/partition_prio
PreemptMode={mode}
{_user_signal(rehearsal)}
{_nodes(rehearsal)}
PartitionName={MAIN} Nodes=ALL Default=YES PriorityTier=1 PreemptMode={mode} GraceTime={GRACE_S} \
DefaultTime=60 MaxTime=INFINITE State=UP
PartitionName={URGENT} Nodes=ALL Default=NO PriorityTier=10 PreemptMode=OFF \
DefaultTime=60 MaxTime=INFINITE State=UP
"""


def _accounting(rehearsal: Rehearsal) -> str:
    if not rehearsal.shape.accounting:
        return "\nAccountingStorageType=accounting_storage/none\n"
    return f"""
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={rehearsal.accounting_port}
AccountingStoragePass={rehearsal.munge_socket}
"""


def _pace(shape: Shape) -> str:
    return f"""\
# Fast where a production cluster is patient: a rehearsal's jobs are short.
SchedulerType=sched/backfill
SchedulerParameters=sched_min_interval=0,batch_sched_delay=0,bf_interval=2,sched_interval=5
PriorityType=priority/basic
MaxArraySize={MAX_ARRAY_SIZE}
MaxJobCount=10000
MinJobAge={shape.min_job_age_s}
KillWait={KILL_WAIT_S}
MessageTimeout={MESSAGE_TIMEOUT_S}
SlurmdTimeout={shape.slurmd_timeout_s}
SlurmctldTimeout=10
MailProg=/bin/true
InactiveLimit=0
JobRequeue=1
"""


def _user_signal(rehearsal: Rehearsal) -> str:
    if not rehearsal.shape.user_signal:
        return "# Preempted jobs get SIGTERM only.\n"
    if rehearsal.release < PREEMPT_PARAMETERS_SINCE:  # the later key is unknown to it, which is fatal
        return "SlurmctldParameters=preempt_send_user_signal\n"
    return "PreemptParameters=send_user_signal\n"


def _nodes(rehearsal: Rehearsal) -> str:
    shape = rehearsal.shape
    memory_mb = shape.memory_mb_per_cpu * shape.cpus
    return "\n".join([
        f"DefMemPerCPU={shape.memory_mb_per_cpu // 2}",
        f"NodeName=DEFAULT CPUs={shape.cpus} RealMemory={memory_mb} State=UNKNOWN",
        *(f"NodeName={name} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port}"
          for name, port in zip(rehearsal.nodes, rehearsal.node_ports, strict=True)),
    ])


def slurmdbd_conf(rehearsal: Rehearsal) -> str:
    """Return slurmdbd.conf, which slurmdbd takes only with mode 600 and beside slurm.conf."""
    return f"""\
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={rehearsal.accounting_port}
SlurmUser={rehearsal.user}
AuthType=auth/munge
AuthInfo=socket={rehearsal.munge_socket}
PidFile={rehearsal.home}/run/slurmdbd.pid
LogFile={rehearsal.logs}/slurmdbd.log
DebugLevelSyslog=quiet
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=rehearsal
StorageLoc=accounting
"""


def database_options(rehearsal: Rehearsal) -> tuple[str, ...]:
    """Return mariadbd's options: small, no port, no durability (it lives as long as the rehearsal).

    Whoever reaches its socket may do anything (`--skip-grant-tables`): the folder around it is the caller's alone.
    """
    home = rehearsal.home
    return (
        "--no-defaults", f"--user={rehearsal.user}", f"--datadir={home}/database", f"--tmpdir={home}/run",
        f"--socket={rehearsal.database_socket}", f"--pid-file={home}/run/mariadbd.pid",
        "--skip-networking", "--skip-grant-tables", "--skip-name-resolve", "--skip-log-bin",
        "--innodb-log-file-size=8M", "--innodb-buffer-pool-size=32M", "--innodb-lock-wait-timeout=900",
        "--innodb-flush-log-at-trx-commit=0", "--innodb-flush-method=nosync",
        "--innodb-temp-data-file-path=ibtmp1:1M:autoextend",
    )
