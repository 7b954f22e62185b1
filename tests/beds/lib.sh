# shellcheck shell=bash
# What the beds (kafka.sh, nats.sh) have in common: options, free ports, and one server process that
# is started detached, watched, signalled and stopped. To be sourced. It never downloads anything,
# never ends a process by its name, and never deletes a bed's data.
#
# A bed is a directory DATA with: bed.env (what `restart` needs), server.log (server.log.N: earlier
# starts), server.pid and watcher.pid (process id and start time, so that a reused id is never hit).

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

# Sets COMMAND, DATA, PORT, CACHE, OWNER, SIGNAL and SETTINGS from the command line.
parse_options() {
  COMMAND=${1:-} DATA='' PORT='' OWNER='' SIGNAL=KILL SETTINGS=()
  CACHE=${ONBOARDING_BRIDGE_BED_CACHE:-$(cd "${BASH_SOURCE[0]%/*}/../.." && pwd)/.cache/beds}
  case $COMMAND in
    start | stop | kill | restart | fetch | watch) shift ;;
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
      *) fail "unknown option $1" ;;
    esac
    shift 2
  done
  case $SIGNAL in KILL | STOP | CONT | TERM) ;; *) fail "--signal is KILL, STOP, CONT or TERM" ;; esac
  [[ $PORT$OWNER =~ ^[0-9]*$ ]] || fail "--port and --owner take numbers"
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
  for name in "$@"; do printf '%s=%q\n' "$name" "${!name}"; done >"$DATA/bed.env"
}

load() {
  [ -f "$DATA/bed.env" ] || fail "no bed was started in $DATA"
  # shellcheck source=/dev/null
  . "$DATA/bed.env"
}

# Launches the server (the bed's own `launch`) and waits for the bed's own `ready`.
# Returns 2 if a port was taken, 1 if it failed otherwise.
bring_up() {
  local log=$DATA/server.log n=1
  if [ -s "$log" ]; then
    while [ -e "$log.$n" ]; do n=$((n + 1)); done
    mv "$log" "$log.$n"
  fi
  : >"$log"
  launch
  watch_owner
  local deadline=$((SECONDS + READY_SECONDS))
  while ((SECONDS < deadline)); do
    alive "$DATA/server.pid" || break
    ! ready || return 0
    sleep 0.1
  done
  if alive "$DATA/server.pid"; then
    echo "${0##*/}: not ready after $READY_SECONDS s; the end of $log:" >&2
  elif grep -qi 'address already in use' "$log"; then
    return 2
  else
    echo "${0##*/}: the server ended before it was ready; the end of $log:" >&2
  fi
  tail -n 30 "$log" >&2
  take_down
  return 1
}

# `start`: the bed's own `configure` is called with PORT set, once for each attempt.
start() {
  if alive "$DATA/server.pid"; then
    load
    show
    return
  fi
  local asked=$PORT attempt status
  trap 'take_down; exit 130' INT TERM
  for ((attempt = 1; attempt <= ATTEMPTS; attempt++)); do
    PORT=${asked:-$(free_port "$PORTS")}
    configure
    status=0
    bring_up || status=$?
    case $status in
      0) show && return ;;
      2) [ -z "$asked" ] || break ;;
      *) exit 1 ;;
    esac
  done
  tail -n 30 "$DATA/server.log" >&2
  take_down
  fail "port $PORT or a neighbour of it is in use"
}

restart() {
  load
  take_down
  local attempt
  for ((attempt = 1; attempt <= ATTEMPTS; attempt++)); do
    local status=0
    bring_up || status=$?
    case $status in
      0) show && return ;;
      2) sleep 1 ;; # the old port is still being let go
      *) exit 1 ;;
    esac
  done
  take_down
  fail "port $PORT or a neighbour of it is in use"
}

# Sends $SIGNAL; after KILL the process is gone and its ports are free when this returns.
signal() {
  alive "$DATA/server.pid" || fail "no server runs in $DATA"
  kill -s "$SIGNAL" "$PID"
  [ "$SIGNAL" = KILL ] || return 0
  while alive "$DATA/server.pid"; do sleep 0.02; done
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
  if [ "$COMMAND" != watch ] && alive "$DATA/watcher.pid"; then kill -s KILL "$PID" 2>/dev/null || true; fi
  ! alive "$DATA/server.pid" || end_process "$PID" "$STARTED"
  rm -f "$DATA/watcher.pid" "$DATA/server.pid"
}

# Starts the watcher, if there is an owner and none watches yet.
watch_owner() {
  [ -n "$OWNER" ] || return 0
  ! alive "$DATA/watcher.pid" || return 0
  detach "$DATA/watcher.pid" "$DATA/watcher.log" bash "$0" watch --data "$DATA" --owner "$OWNER"
}

# The watcher: stops the server when the owner is gone, or the directory was removed under it.
watch() {
  local owner_started server='' server_started=''
  owner_started=$(started_at "$OWNER")
  while [ -n "$owner_started" ] && [ "$(started_at "$OWNER")" = "$owner_started" ]; do
    [ -d "$DATA" ] || break
    if alive "$DATA/server.pid"; then server=$PID server_started=$STARTED; fi
    sleep 0.5
  done
  if [ -d "$DATA" ]; then
    echo "owner $OWNER is gone: stopping"
    take_down
  elif [ -n "$server" ]; then
    end_process "$server" "$server_started"
  fi
}

# Does what the command line said.
main() {
  parse_options "$@"
  case $COMMAND in
    fetch) fetch && show_fetched ;;
    start) fetch && start ;;
    stop) take_down ;;
    kill) signal ;;
    restart) restart ;;
    watch) watch ;;
  esac
}
