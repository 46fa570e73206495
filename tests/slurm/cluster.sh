#!/usr/bin/env bash
# A private Slurm on this one host, for tests: slurmctld and four slurmd (cpu1 cpu2 gpu1 gpu2, one
# core each, declared GPUs) on loopback, with a munge of its own.
#   cluster.sh install              Debian's packages, as root or by a sudo without password
#   cluster.sh start | stop | status
#   cluster.sh controller stop | start
#   cluster.sh node lose | revive NAME     a node dies with its jobs; comes back
# Key, sockets, state, logs and pids lie in $SLT_DIR; nothing under /etc or /var is used.
set -euo pipefail
SLT_DIR=${SLT_DIR:?a folder for the cluster}
SLT_PORT=${SLT_PORT:-16817}  # slurmctld; +1 slurmdbd, +2 mariadb, +10 and on the slurmd
SLT_ACCT=${SLT_ACCT:-0}      # 1: mariadb and slurmdbd too, so that sacct and accounts work
SLT_WAIT=${SLT_WAIT:-60}     # seconds that any one wait may take
NODES=(cpu1 cpu2 gpu1 gpu2)
CGROUPS=(/sys/fs/cgroup/{memory,freezer}) # version 1: with them the kernel holds jobs to their memory
export PATH=$PATH:/usr/sbin:/sbin
export SLURM_CONF=$SLT_DIR/etc/slurm.conf
ME=$(id -un) HOST=$(hostname -s) ADDR=

say() { printf '[slurm %(%H:%M:%S)T] %s\n' -1 "$*" >&2; }
die() {
  local f; say "$*"
  for f in "$SLT_DIR"/log/*.log; do [ -s "$f" ] && { echo "== $f"; tail -n 12 "$f"; }; done >&2
  exit 1
}

cmd_install() {
  local packages=(slurmctld slurmd slurm-client munge procps) sudo=() made=0 rc=0
  [ "$SLT_ACCT" = 1 ] && packages+=(slurmdbd mariadb-server)
  dpkg -s "${packages[@]}" >/dev/null 2>&1 && return
  if [ "$(id -u)" != 0 ]; then
    sudo=(sudo -n)
    sudo -n true 2>/dev/null || {
      say "These tests need Debian's ${packages[*]}, and installing them needs root or a sudo" \
        "without password. Ask for: apt-get install --no-install-recommends ${packages[*]}"
      exit 1
    }
  fi
  command -v apt-get >/dev/null || { say "No apt-get here: install ${packages[*]} by hand"; exit 1; }
  say "Installing ${packages[*]}"
  if [ ! -e /usr/sbin/policy-rc.d ]; then # the packages' own services stay down
    printf '#!/bin/sh\nexit 101\n' | "${sudo[@]}" install -m 755 /dev/stdin /usr/sbin/policy-rc.d
    made=1
  fi
  { "${sudo[@]}" apt-get update -qq &&
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
      apt-get install -y -qq --no-install-recommends "${packages[@]}"; } >/dev/null || rc=$?
  [ $made = 0 ] || "${sudo[@]}" rm -f /usr/sbin/policy-rc.d
  [ $rc = 0 ] || say "apt-get could not install ${packages[*]}"
  return $rc
}

bg() { # bg NAME CMD...: a daemon kept in the foreground of a session of its own; its pid is kept
  local name=$1; shift
  setsid "$@" >>"$SLT_DIR/log/$name.log" 2>&1 </dev/null &
  echo $! >"$SLT_DIR/run/$name.pid"
}
gone() { # gone PID: ended, or a zombie that nobody has reaped yet
  local s; s=$(cut -d' ' -f3 "/proc/$1/stat" 2>/dev/null) || return 0
  [ "$s" = Z ] || [ -z "$s" ]
}
end() { # end NAME [SIGNAL]
  local p i; p=$(cat "$SLT_DIR/run/$1.pid" 2>/dev/null) || return 0
  rm -f "$SLT_DIR/run/$1.pid"
  grep -qs "${1%%-*}" "/proc/$p/cmdline" || return 0 # ended, or the number is another's by now
  kill "-${2:-TERM}" "$p" 2>/dev/null || true
  for ((i = 0; i < 200; i++)); do gone "$p" && return; sleep 0.05; done
  say "$1 ($p) outlived ${2:-TERM}"; kill -9 "$p" 2>/dev/null || true
}
waitfor() { # waitfor WHAT CMD...
  local what=$1 i; shift
  for ((i = 0; i < SLT_WAIT * 5; i++)); do "$@" >/dev/null 2>&1 && return 0; sleep 0.2; done
  die "gave up waiting for $what"
}
limited() { [ "$(id -u)" = 0 ] && [ -w "${CGROUPS[0]}/tasks" ] && [ -w "${CGROUPS[1]}/tasks" ]; }
nodes_idle() { [ "$(sinfo -h -N -o %T | sort -u)" = idle ]; }
node_up() { sinfo -h -N -n "$1" -o %T | grep -qE '^(idle|mixed|allocated)$'; }
kids() { local c; for c in $(pgrep -P "$1"); do kids "$c"; echo "$c"; done; }
end_steps() { # end_steps LOG: slurmstepd outlives slurmd by design; end those that log there
  local p
  for p in $(pgrep -f '^slurmstepd: '); do
    [ -n "$(find "/proc/$p/fd" -lname "$1" -print -quit 2>/dev/null)" ] || continue
    kill -9 $(kids "$p") "$p" 2>/dev/null || true
  done
}

end_orphans() { # without cgroups Slurm may lose sight of a job's processes
  local p
  for p in $(grep -lsa "PATH=$SLT_DIR/bin:" /proc/[0-9]*/environ | cut -d/ -f3); do
    grep -qsa SLURM_JOB_ID= "/proc/$p/environ" && { kill -9 "$p" 2>/dev/null || true; }
  done
}

write_conf() {
  local e=$SLT_DIR/etc acct=none track=linuxproc task=none i d
  [ "$SLT_ACCT" = 1 ] && acct=slurmdbd
  limited && { track=cgroup task=cgroup; echo ConstrainRAMSpace=yes >"$e/cgroup.conf"; }
  cat >"$e/slurm.conf" <<CONF
ClusterName=slurmtest
SlurmctldHost=$HOST($ADDR)
SlurmctldPort=$SLT_PORT
SlurmUser=$ME
SlurmdUser=$ME
AuthType=auth/munge
AuthInfo=socket=$SLT_DIR/run/munge.sock
CredType=cred/munge
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation=$SLT_DIR/state
SlurmctldPidFile=$SLT_DIR/run/slurmctld.own.pid
SlurmctldLogFile=$SLT_DIR/log/slurmctld.log
SlurmdSpoolDir=$SLT_DIR/spool/%n
SlurmdPidFile=$SLT_DIR/run/slurmd-%n.own.pid
SlurmdLogFile=$SLT_DIR/log/slurmd-%n.log
ProctrackType=proctrack/$track
TaskPlugin=task/$task
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
AccountingStorageType=accounting_storage/$acct
MpiDefault=none
ReturnToService=2
MailProg=/bin/true
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2,sched_min_interval=0,requeue_delay=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
PriorityType=priority/basic
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
EnforcePartLimits=ALL
KillWait=2
# Numbers of jobs that no other cluster of this host uses: they name cgroups.
FirstJobId=$((SLT_PORT * 1000))
# The tests read finished jobs' records from the controller.
MinJobAge=7200
GresTypes=gpu
# Nodes of any size on this host. One core each: as many jobs at a time as there are nodes.
SlurmdParameters=config_overrides
$(for i in "${!NODES[@]}"; do
    gpus=; [[ ${NODES[i]} == gpu* ]] && gpus=Gres=gpu:a100:2,gpu:h100:1
    echo "NodeName=${NODES[i]} NodeHostname=$HOST NodeAddr=$ADDR Port=$((SLT_PORT + 10 + i)) CPUs=1 RealMemory=600000 $gpus State=UNKNOWN"
  done)
PartitionName=batch Nodes=cpu1,cpu2 Default=YES MaxTime=7-00:00:00 DefaultTime=10 State=UP
PartitionName=accel Nodes=gpu1,gpu2 Default=NO MaxTime=7-00:00:00 DefaultTime=10 State=UP
PartitionName=urgent Nodes=ALL Default=NO PriorityTier=2 DefaultTime=10 State=UP
CONF
  # gres/gpu wants File= naming character devices, or it sets no CUDA_VISIBLE_DEVICES
  i=0; for d in null zero full; do ln -sfn "/dev/$d" "$SLT_DIR/dev/nvidia$i"; i=$((i + 1)); done
  for d in gpu1 gpu2; do
    echo "NodeName=$d Name=gpu Type=a100 File=$SLT_DIR/dev/nvidia[0-1]"
    echo "NodeName=$d Name=gpu Type=h100 File=$SLT_DIR/dev/nvidia2"
  done >"$e/gres.conf"
  # The plugin's job step drops SLURM_CONF from the environment before it calls srun
  printf '#!/bin/sh\nSLURM_CONF=%s exec /usr/bin/srun "$@"\n' "$SLURM_CONF" >"$SLT_DIR/bin/srun"
  chmod 755 "$SLT_DIR/bin/srun"
  [ "$SLT_ACCT" = 1 ] || return 0
  cat >>"$e/slurm.conf" <<CONF
AccountingStorageHost=$ADDR
AccountingStoragePort=$((SLT_PORT + 1))
AccountingStoragePass=$SLT_DIR/run/munge.sock
AccountingStorageTRES=gres/gpu,gres/gpu:a100,gres/gpu:h100
AccountingStoreFlags=job_comment
CONF
  cat >"$e/slurmdbd.conf" <<CONF
AuthType=auth/munge
AuthInfo=socket=$SLT_DIR/run/munge.sock
CommunicationParameters=NoInAddrAny
DbdHost=$HOST
DbdAddr=$ADDR
DbdPort=$((SLT_PORT + 1))
SlurmUser=$ME
PidFile=$SLT_DIR/run/slurmdbd.own.pid
LogFile=$SLT_DIR/log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=$((SLT_PORT + 2))
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct_db
CONF
  chmod 600 "$e/slurmdbd.conf"
}

start_db() {
  local d=$SLT_DIR/db u=$ME
  [ "$(id -u)" = 0 ] && u=mysql
  mkdir -p "$d"; [ "$u" = "$ME" ] || chown "$u" "$d"
  # Its own folder for temporary files: where root runs this, TMPDIR is not the database's to write.
  mariadb-install-db --no-defaults --user="$u" --datadir="$d/data" --tmpdir="$d" --skip-test-db \
    --auth-root-authentication-method=normal >"$SLT_DIR/log/mariadb-install.log" 2>&1 ||
    die "mariadb-install-db failed"
  bg mariadb mariadbd --no-defaults --user="$u" --datadir="$d/data" --tmpdir="$d" --socket="$d/s.sock" \
    --bind-address=127.0.0.1 --port=$((SLT_PORT + 2)) --pid-file="$d/own.pid" --skip-log-bin \
    --innodb-buffer-pool-size=64M --innodb-lock-wait-timeout=900 --innodb-flush-log-at-trx-commit=0
  waitfor mariadb mariadb-admin --no-defaults -u root -S "$d/s.sock" ping
  mariadb --no-defaults -u root -S "$d/s.sock" -e "
    create database slurm_acct_db;
    create user slurm@'127.0.0.1' identified by 'slurm';
    create user slurm@localhost identified by 'slurm';
    grant all on slurm_acct_db.* to slurm@'127.0.0.1';
    grant all on slurm_acct_db.* to slurm@localhost;"
  bg slurmdbd slurmdbd -D
  waitfor slurmdbd sacctmgr -n list cluster
  { sacctmgr -i add cluster slurmtest
    sacctmgr -i add account vision
    sacctmgr -i add user "$ME" account=vision defaultaccount=vision; } >/dev/null
}

start_controller() { bg slurmctld slurmctld -D -f "$SLURM_CONF"; }
start_node() { bg "slurmd-$1" slurmd -D -N "$1" -f "$SLURM_CONF"; }

cmd_start() {
  [ ! -e "$SLT_DIR/run/munged.pid" ] || { say "$SLT_DIR is in use: stop it first"; exit 1; }
  # With No*InAddrAny every daemon and srun binds to what the host's own name resolves to
  ADDR=$(getent ahostsv4 "$HOST" | awk 'NR == 1 {print $1}') || true
  [ "$ADDR" = 127.0.0.1 ] || { say "'$HOST' resolves to '${ADDR:-nothing}', not to 127.0.0.1"; exit 1; }
  local n; for n in "${NODES[@]}"; do mkdir -p "$SLT_DIR/spool/$n"; done
  mkdir -p "$SLT_DIR"/{etc,run,log,state,dev,bin}
  chmod 755 "$SLT_DIR" "$SLT_DIR"/{etc,run,bin}
  (umask 077; head -c 1024 /dev/urandom >"$SLT_DIR/etc/munge.key")
  write_conf
  bg munged munged -F --key-file="$SLT_DIR/etc/munge.key" --socket="$SLT_DIR/run/munge.sock" \
    --pid-file="$SLT_DIR/run/munged.own.pid" --log-file="$SLT_DIR/log/munged.own.log" \
    --seed-file="$SLT_DIR/run/munged.seed" --num-threads=10
  waitfor munged munge -n --socket="$SLT_DIR/run/munge.sock"
  [ "$SLT_ACCT" = 1 ] && start_db
  start_controller
  for n in "${NODES[@]}"; do start_node "$n"; done
  waitfor "idle nodes" nodes_idle
  say "up: $(sinfo -h -o '%P %D %T %G' | paste -sd';')$(limited && echo '; memory is held to')"
}

cmd_stop() {
  local n i
  if [ -e "$SLT_DIR/run/slurmctld.pid" ]; then
    timeout 10 scancel --state=PENDING,RUNNING,SUSPENDED >/dev/null 2>&1 || true
    for ((i = 0; i < 50; i++)); do [ -z "$(timeout 5 squeue -h 2>/dev/null)" ] && break; sleep 0.2; done
  fi
  for n in "${NODES[@]/#/slurmd-}" slurmctld slurmdbd mariadb munged; do end "$n"; done
  end_steps "$SLT_DIR/log/*"
  end_orphans
  for n in "${NODES[@]}"; do rmdir "${CGROUPS[@]/%//slurm_$n}" 2>/dev/null || true; done
  say stopped
}

cmd_controller() {
  case $1 in
    stop) end slurmctld ;;
    start) start_controller; waitfor slurmctld scontrol ping ;;
  esac
}

cmd_node() {
  case $1 in
    lose)
      end "slurmd-$2" KILL
      end_steps "$SLT_DIR/log/slurmd-$2.log"
      scontrol update "NodeName=$2" State=DOWN Reason=lost
      ;;
    revive) start_node "$2"; waitfor "node $2" node_up "$2" ;;
  esac
}

cmd_status() { sinfo -N -o '%N %P %T %c %m %G'; squeue; }

c=${1:-help}
# A host whose name is not 127.0.0.1: give the daemons a UTS namespace where it is "localhost"
case $c in start | controller | node)
  if [ "$(getent ahostsv4 "$HOST" | awk 'NR == 1 {print $1}')" != 127.0.0.1 ] && [ "$(id -u)" = 0 ] &&
    [ -z "${SLT_UTS:-}" ] && unshare --uts true 2>/dev/null; then
    SLT_UTS=1 exec unshare --uts bash -c 'hostname localhost; exec "$0" "$@"' "$0" "$@"
  fi ;;
esac
shift || true
case $c in install | start | stop | status | controller | node) "cmd_$c" "$@" ;; *) sed -n 2,9p "$0" >&2; exit 2 ;; esac
