#!/usr/bin/env bash
# A real SLURM of one node on this machine, to try `cocuyo batch --slurm` on:
#
#   tools/start_slurm.sh start DIR     start it; keys, state and logs lie in DIR
#   export SLURM_CONF=DIR/slurm.conf   then sbatch, squeue and cocuyo find it
#   tools/start_slurm.sh stop DIR      end it
#
# Needs root and Debian's slurm-wlm (apt-get install slurm-wlm, which brings munge). Nothing of a
# SLURM that is installed already is touched: configuration, socket and ports are its own.
set -euo pipefail

action=${1:?start or stop}
mkdir -p "${2:?folder}"
dir=$(cd "$2" && pwd)
export SLURM_CONF=$dir/slurm.conf

stop() {
    for name in slurmd slurmctld munged; do
        if [ -s "$dir/$name.pid" ]; then
            kill "$(cat "$dir/$name.pid")" 2>/dev/null || true
        fi
    done
}

if [ "$action" = stop ]; then
    stop
    exit 0
fi

for program in munged slurmctld slurmd; do
    if ! PATH=$PATH:/usr/sbin command -v "$program" >/dev/null; then
        echo "$program is not installed: apt-get install slurm-wlm" >&2
        exit 1
    fi
done
export PATH=$PATH:/usr/sbin

chmod 755 "$dir" # munge refuses a folder that others may write to
mkdir -p "$dir/state" "$dir/spool"
cores=$(env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc) # which it would believe
memory=$(awk '/MemTotal/ {print int($2 / 1024 * 0.9)}' /proc/meminfo)
host=$(hostname -s)

cat >"$SLURM_CONF" <<CONF
ClusterName=cocuyo
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/munge.sock
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd.log
NodeName=$host NodeAddr=127.0.0.1 CPUs=$cores RealMemory=$memory State=UNKNOWN
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
echo "CgroupPlugin=cgroup/v1" >"$dir/cgroup.conf"

if [ ! -s "$dir/munge.key" ]; then
    dd if=/dev/urandom of="$dir/munge.key" bs=1 count=1024 status=none
    chmod 400 "$dir/munge.key"
fi
munged --force --key-file="$dir/munge.key" --socket="$dir/munge.sock" --pid-file="$dir/munged.pid" \
    --log-file="$dir/munged.log" --seed-file="$dir/munged.seed"
slurmctld
slurmd

for _ in $(seq 30); do
    if [ "$(sinfo --noheader --format=%T 2>/dev/null)" = idle ]; then
        echo "SLURM is ready: export SLURM_CONF=$SLURM_CONF"
        exit 0
    fi
    sleep 1
done
echo "SLURM did not start; see the logs in $dir." >&2
tail -n 5 "$dir"/*.log >&2
stop
exit 1
