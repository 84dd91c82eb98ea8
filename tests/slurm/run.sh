#!/usr/bin/env bash
# Shards on a real Slurm of one node: an array of four, one task killed and the array submitted again, the merge behind it, and
# the result compared with a kernel that was computed at once, bit for bit.
#
# Needs root and Debian's packages: apt-get install slurm-wlm munge. Everything listens on loopback and ends with the script.
#   tests/slurm/run.sh target/release/kernelview
set -euo pipefail
program=$(realpath "${1:?usage: tests/slurm/run.sh PROGRAM}")
work=$(mktemp -d)
slurm=$work/slurm
mkdir -p "$slurm"/{state,spool}
chmod 755 "$work" "$slurm"
host=$(hostname -s)
pids=()
finish() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    # They write their state on the way out.
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    [ -n "${KEEP:-}" ] || rm -rf "$work"
}
trap finish EXIT

# Munge, with a key and a socket of its own.
dd if=/dev/urandom of="$slurm/munge.key" bs=1024 count=1 status=none
chmod 400 "$slurm/munge.key"
munged --foreground --force --key-file="$slurm/munge.key" --socket="$slurm/munge.socket" --pid-file="$slurm/munge.pid" \
    --seed-file="$slurm/munge.seed" --log-file="$slurm/munged.log" &
pids+=($!)
cpus=$(nproc)
cat > "$slurm/slurm.conf" <<CONF
ClusterName=kernelview
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
AuthType=auth/munge
AuthInfo=socket=$slurm/munge.socket
CryptoType=crypto/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$slurm/state
SlurmdSpoolDir=$slurm/spool
SlurmctldPidFile=$slurm/slurmctld.pid
SlurmdPidFile=$slurm/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
MpiDefault=none
NodeName=$host NodeAddr=127.0.0.1 CPUs=$cpus State=UNKNOWN
PartitionName=all Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
export SLURM_CONF=$slurm/slurm.conf
sleep 1
slurmctld -D > "$slurm/slurmctld.log" 2>&1 &
pids+=($!)
slurmd -D > "$slurm/slurmd.log" 2>&1 &
pids+=($!)
for _ in $(seq 60); do sinfo -h -o %T 2>/dev/null | grep -q idle && break; sleep 1; done
sinfo

cd "$work"
arguments=(kernel --device cpu --threads 1 --block 10 --parameter-chunks 2 --out K.safetensors)
"$program" "${arguments[@]:0:9}" --out whole.safetensors
"$program" submit --slurm --shards 4 --out-dir jobs -- "${arguments[@]}"
wait_for() { while squeue -h | grep -q .; do sleep 1; done; }

echo "=== first: one task is killed"
job=$(cd "$work" && OLDPWD=$work sbatch --parsable --array=0-3 --chdir="$work" jobs/shards.sbatch)
until [ -n "$(ls K.safetensors.shards/2-of-4.started 2>/dev/null)" ] || ! squeue -h | grep -q .; do sleep 0.05; done
scancel --signal=KILL "${job}_2" || true
wait_for
rm -f K.safetensors.shards/block-0001-0003-01.safetensors
if "$program" merge K.safetensors.shards --out K.safetensors; then
    echo "merged although a block is missing" >&2
    exit 1
fi

echo "=== again: the whole submission"
sh jobs/submit.sh
wait_for
cat merge-*.log
cmp K.safetensors whole.safetensors
echo "merged = computed at once, bit for bit"
