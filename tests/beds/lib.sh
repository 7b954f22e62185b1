# shellcheck shell=bash
# What the beds (kafka.sh, nats.sh) have in common: options, free ports, and one server process or a
# cluster of them, started detached, watched, signalled and stopped. To be sourced. It never downloads
# anything, never ends a process by its name, and never deletes a bed's data.
#
# A bed is a directory DATA with bed.env (what `restart` needs) and watcher.pid. Each of its servers
# has a directory DIR, which is DATA itself when there is one server and DATA/node-N in a cluster, with
# server.log (server.log.N: earlier starts) and server.pid. A pid file holds the process id and its
# start time, so that a reused id is never hit.

READY_SECONDS=120 # a loaded two-core machine needs a tenth of it
STOP_SECONDS=30
ATTEMPTS=8 # starts on other ports, when a port was taken between the choice and the bind

fail() {
  echo "${0##*/}: $*" >&2
  exit 1
}

# The comment at the head of the script is its manual.
usage() {
  awk 'NR > 1 { if (!/^#/) exit; sub(/^# ?/, ""); print }' "$0" >&2
  exit "$1"
}

# Sets COMMAND, DATA, PORT, CACHE, OWNER, SIGNAL, SETTINGS, NODES, ID, PROFILE and ADVERTISE from the
# command line.
parse_options() {
  COMMAND=${1:-} DATA='' PORT='' OWNER='' SIGNAL=KILL SETTINGS=() NODES=1 ID='' PROFILE=plain ADVERTISE=''
  CACHE=${ONBOARDING_BRIDGE_BED_CACHE:-$(cd "${BASH_SOURCE[0]%/*}/../.." && pwd)/.cache/beds}
  case $COMMAND in
    start | stop | kill | restart | fetch | watch) shift ;;
    kill-"$MEMBER" | start-"$MEMBER") shift ;;
    help | --help | -h) usage 0 ;;
    *) usage 64 ;;
  esac
  while [ $# -gt 0 ]; do
    [ $# -ge 2 ] || fail "$1 needs a value"
    case $1 in
      --data) DATA=$2 ;;
      --port) PORT=$2 ;;
      --cache) CACHE=$2 ;;
      --owner) OWNER=$2 ;;
      --signal) SIGNAL=$2 ;;
      --set) SETTINGS+=("$2") ;;
      --"${MEMBER}s") NODES=$2 ;;
      --id) ID=$2 ;;
      --profile) PROFILE=$2 ;;
      --advertise) ADVERTISE=$2 ;;
      *) fail "unknown option $1" ;;
    esac
    shift 2
  done
  case $SIGNAL in KILL | STOP | CONT | TERM | HUP) ;; *) fail "--signal is KILL, STOP, CONT, TERM or HUP" ;; esac
  [[ $PORT$OWNER$ID =~ ^[0-9]*$ ]] || fail "--port, --owner and --id take numbers"
  [[ $NODES =~ ^[1-5]$ ]] || fail "--${MEMBER}s takes 1 to 5"
  case $PROFILE in plain | acl) ;; *) fail "--profile is plain or acl" ;; esac
  [[ $COMMAND != *-"$MEMBER" || -n $ID ]] || fail "$COMMAND needs --id"
  if [ "$COMMAND" = fetch ] || [ "$COMMAND" = start ]; then
    mkdir -p "$CACHE"
    CACHE=$(cd "$CACHE" && pwd)
  fi
  [ "$COMMAND" != fetch ] || return 0
  [ -n "$DATA" ] || fail "--data is required"
  [ "$COMMAND" != start ] || mkdir -p "$DATA"
  [ -d "$DATA" ] || fail "no such directory: $DATA"
  DATA=$(cd "$DATA" && pwd)
}

# When process $1 started, in clock ticks since boot; nothing if it is gone (a zombie is gone).
started_at() {
  local stat fields
  { stat=$(<"/proc/$1/stat"); } 2>/dev/null || return 0
  read -ra fields <<<"${stat##*) }"
  case ${fields[0]} in Z | X) ;; *) echo "${fields[19]}" ;; esac
}

# Whether the process of the pid file $1 lives; sets PID and STARTED when the file is there.
alive() {
  PID='' STARTED=''
  { read -r PID STARTED <"$1"; } 2>/dev/null || return 1
  [ -n "$STARTED" ] && [ "$(started_at "$PID")" = "$STARTED" ]
}

# Starts "${@:3}" detached from this terminal, output to file $2, pid to file $1.
detach() {
  local pid_file=$1 log=$2
  shift 2
  setsid "$@" </dev/null >>"$log" 2>&1 &
  local pid=$! started
  disown "$pid"
  started=$(started_at "$pid")
  echo "$pid ${started:-0}" >"$pid_file"
}

# A first port of $1 neighbours on which nobody listens, below the range of outgoing connections.
free_port() {
  local first port
  while :; do
    first=$((15000 + RANDOM % 4000 * 4))
    for ((port = first; port < first + $1; port++)); do
      ! (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null || continue 2
    done
    echo "$first"
    return
  done
}

save() {
  local name
  for name in PORT OWNER NODES PROFILE "$@"; do printf '%s=%q\n' "$name" "${!name}"; done >"$DATA/bed.env"
}

# Sets NODE, DIR and NODE_PORT (the first of its ports) to those of server $1.
at_node() {
  # shellcheck disable=SC2153 # PORTS and MEMBER are the bed's own
  NODE=$1 DIR=$DATA NODE_PORT=$((PORT + ($1 - 1) * PORTS))
  ((NODES == 1)) || DIR=$DATA/node-$1
  mkdir -p "$DIR"
}

# The settings of server NODE, one a line: those for all, and those that start with its number.
settings() {
  local setting
  for setting in ${SETTINGS[@]+"${SETTINGS[@]}"}; do
    if [[ ! $setting =~ ^[0-9]: ]]; then
      echo "$setting"
    elif [[ $setting == "$NODE:"* ]]; then
      echo "${setting#*:}"
    fi
  done
}

# Where clients are told to find server NODE: at its own port, or where --advertise says.
advertised() {
  local addresses
  IFS=, read -ra addresses <<<"$ADVERTISE"
  echo "${addresses[NODE - 1]:-127.0.0.1:$NODE_PORT}"
}

# "$1HOST:PORT" of each server, $2 ports above its first, with commas between.
addresses() {
  local node list=''
  for ((node = 1; node <= NODES; node++)); do
    list+=${list:+,}${1}127.0.0.1:$((PORT + (node - 1) * PORTS + $2))
  done
  echo "$list"
}

load() {
  [ -f "$DATA/bed.env" ] || fail "no bed was started in $DATA"
  # shellcheck source=/dev/null
  . "$DATA/bed.env"
}

# Launches the servers "$@" (the bed's own `launch`) and waits for each to be `ready`.
# Returns 2 if a port was taken, 1 if it failed otherwise.
bring_up() {
  local node status
  for node in "$@"; do
    at_node "$node"
    keep_log
    launch
  done
  watch_owner
  local deadline=$((SECONDS + READY_SECONDS))
  for node in "$@"; do
    at_node "$node"
    status=0
    wait_ready "$deadline" || status=$?
    [ "$status" -ne 1 ] || take_down
    [ "$status" -eq 0 ] || return "$status"
  done
}

# Puts the log of the last start aside.
keep_log() {
  local log=$DIR/server.log n=1
  if [ -s "$log" ]; then
    while [ -e "$log.$n" ]; do n=$((n + 1)); done
    mv "$log" "$log.$n"
  fi
  : >"$log"
}

# Waits until server NODE is `ready`, until second $1; returns as `bring_up`.
wait_ready() {
  local log=$DIR/server.log
  while ((SECONDS < $1)); do
    alive "$DIR/server.pid" || break
    ! ready || return 0
    sleep 0.1
  done
  if alive "$DIR/server.pid"; then
    echo "${0##*/}: not ready after $READY_SECONDS s; the end of $log:" >&2
  elif grep -qi 'address already in use' "$log"; then
    return 2
  else
    echo "${0##*/}: the server ended before it was ready; the end of $log:" >&2
  fi
  tail -n 30 "$log" >&2
  return 1
}

# The numbers of all servers.
all() { seq "$NODES"; }

# `start`: the bed's own `configure` is called with PORT set, once for each attempt.
start() {
  if running; then
    load
    show
    return
  fi
  local asked=$PORT attempt status
  trap 'take_down; exit 130' INT TERM
  for ((attempt = 1; attempt <= ATTEMPTS; attempt++)); do
    take_down # what is left of an attempt that found a port taken
    PORT=${asked:-$(free_port "$((PORTS * NODES))")}
    configure
    status=0
    # shellcheck disable=SC2046 # numbers
    bring_up $(all) || status=$?
    case $status in
      0) show && return ;;
      2) [ -z "$asked" ] || break ;;
      *) exit 1 ;;
    esac
  done
  tail -n 30 "$DIR/server.log" >&2
  take_down
  fail "port $PORT or a neighbour of it is in use"
}

# Whether any server of the bed lives.
running() {
  local pid_file
  for pid_file in $(pid_files); do ! alive "$pid_file" || return 0; done
  return 1
}

# The pid files of all servers that were started.
pid_files() {
  local pid_file
  for pid_file in server.pid node-{1..5}/server.pid; do
    [ ! -e "$DATA/$pid_file" ] || printf '%q\n' "$DATA/$pid_file"
  done
}

restart() {
  load
  take_down
  # shellcheck disable=SC2046 # numbers
  bring_back $(all)
}

# One server of a cluster, beside the others.
start_member() {
  load
  at_node "$ID"
  ! alive "$DIR/server.pid" || fail "$MEMBER $ID runs already"
  bring_back "$ID"
}

# Brings the servers "$@" up on the ports that they had.
bring_back() {
  local attempt
  for ((attempt = 1; attempt <= ATTEMPTS; attempt++)); do
    local status=0
    bring_up "$@" || status=$?
    case $status in
      0) show && return ;;
      2) sleep 1 ;; # the old port is still being let go
      *) exit 1 ;;
    esac
  done
  take_down
  fail "port $PORT or a neighbour of it is in use"
}

# Sends $SIGNAL to server ID, or without one to all; after KILL they are gone and their ports are
# free when this returns.
signal() {
  load
  local node reached=0
  for node in ${ID:-$(all)}; do
    at_node "$node"
    alive "$DIR/server.pid" || continue
    kill -s "$SIGNAL" "$PID"
    reached=1
    [ "$SIGNAL" = KILL ] || continue
    while alive "$DIR/server.pid"; do sleep 0.02; done
  done
  [ "$reached" -eq 1 ] || fail "no server runs in $DATA"
}

# Ends process $1 that started at $2: gracefully, then not.
end_process() {
  local deadline=$((SECONDS + STOP_SECONDS))
  [ "$(started_at "$1")" = "$2" ] || return 0
  kill -s TERM "$1" 2>/dev/null || return 0
  kill -s CONT "$1" 2>/dev/null || return 0 # a stopped process would not hear TERM
  while [ "$(started_at "$1")" = "$2" ]; do
    if ((SECONDS >= deadline)); then
      echo "${0##*/}: process $1 did not end within $STOP_SECONDS s and is killed" >&2
      kill -s KILL "$1" 2>/dev/null || true
      deadline=$((SECONDS + STOP_SECONDS))
    fi
    sleep 0.05
  done
}

take_down() {
  local pid_file
  if [ "$COMMAND" != watch ] && alive "$DATA/watcher.pid"; then kill -s KILL "$PID" 2>/dev/null || true; fi
  # All are told before any is awaited: a member that leaves a cluster last would wait for the others.
  for pid_file in $(pid_files); do
    ! alive "$pid_file" || kill -s TERM "$PID" 2>/dev/null || true
  done
  for pid_file in $(pid_files); do
    ! alive "$pid_file" || end_process "$PID" "$STARTED"
    rm -f "$pid_file"
  done
  rm -f "$DATA/watcher.pid"
}

# Starts the watcher, if there is an owner and none watches yet.
watch_owner() {
  [ -n "$OWNER" ] || return 0
  ! alive "$DATA/watcher.pid" || return 0
  detach "$DATA/watcher.pid" "$DATA/watcher.log" bash "$0" watch --data "$DATA" --owner "$OWNER"
}

# The watcher: stops the servers when the owner is gone, or the directory was removed under them.
watch() {
  local owner_started pid_file server
  local -A servers=()
  owner_started=$(started_at "$OWNER")
  while [ -n "$owner_started" ] && [ "$(started_at "$OWNER")" = "$owner_started" ]; do
    [ -d "$DATA" ] || break
    for pid_file in $(pid_files); do
      ! alive "$pid_file" || servers[$PID]=$STARTED
    done
    sleep 0.5
  done
  if [ -d "$DATA" ]; then
    echo "owner $OWNER is gone: stopping"
    take_down
  else
    for server in "${!servers[@]}"; do end_process "$server" "${servers[$server]}"; done
  fi
}

# Does what the command line said.
main() {
  parse_options "$@"
  case $COMMAND in
    fetch) fetch && show_fetched ;;
    start) fetch && start ;;
    stop) take_down ;;
    kill | kill-*) signal ;;
    start-*) start_member ;;
    restart) restart ;;
    watch) watch ;;
  esac
}
