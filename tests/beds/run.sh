#!/usr/bin/env bash
# Runs a command with real brokers: run.sh COMMAND [ARGUMENT ...]
#
# Starts one Kafka and one NATS, exports KAFKA_BOOTSTRAP, KAFKA_CLASSPATH (Kafka's own jars) and
# NATS_URL, runs the command, stops both, and returns the command's exit code. A broker whose address
# is already in the environment is used as it is and never stopped. If a broker cannot be had the
# command is not run and the exit code is 69: nothing is skipped silently.
# Data and logs are in a directory of their own and removed at the end, unless
# ONBOARDING_BRIDGE_BED_KEEP=1 is in the environment.
# Even after `kill -9` of this script both servers end (see --owner in kafka.sh).
set -euo pipefail
BEDS=$(cd "${BASH_SOURCE[0]%/*}" && pwd)
[ $# -gt 0 ] || {
  echo "usage: run.sh COMMAND [ARGUMENT ...]" >&2
  exit 64
}

RUN=$(mktemp -d "${TMPDIR:-/tmp}/onboarding-bridge-beds.XXXXXX")
STARTED=() # the beds
STARTING=() # the processes that start them

# shellcheck disable=SC2317 # reached by the trap
finish() {
  local status=$? bed pid stops=()
  trap - EXIT INT TERM HUP
  for pid in ${STARTING[@]+"${STARTING[@]}"}; do
    kill -s TERM "$pid" 2>/dev/null || true
    wait "$pid" || true
  done
  for bed in ${STARTED[@]+"${STARTED[@]}"}; do
    died "$RUN/$bed" "$bed"
    "$BEDS/$bed.sh" stop --data "$RUN/$bed" &
    stops+=($!)
  done
  for pid in ${stops[@]+"${stops[@]}"}; do wait "$pid" || true; done
  if [ -n "${ONBOARDING_BRIDGE_BED_KEEP:-}" ]; then
    echo "run.sh: logs and data are kept in $RUN" >&2
  else
    rm -rf "$RUN"
  fi
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# Says so if the server of the directory $1 ended on its own.
# shellcheck disable=SC2317 # reached by the trap
died() {
  local pid
  { read -r pid _ <"$1/server.pid"; } 2>/dev/null || return 0
  ! grep -qs '^State:.[^ZX]' "/proc/$pid/status" || return 0
  echo "run.sh: $2 ended before the command did; the end of its log:" >&2
  tail -n 30 "$1/server.log" >&2
}

# Starts bed $1 beside the others; its answer is in $RUN/$1.out.
begin() {
  mkdir "$RUN/$1"
  STARTED+=("$1")
  "$BEDS/$1.sh" start --data "$RUN/$1" --owner $$ >"$RUN/$1.out" &
  STARTING+=($!)
}

# Exports from the answer $1 the variables "${@:2}".
take() {
  local answer=$1 name line
  shift
  for name in "$@"; do
    line=$(grep "^$name=" "$answer") || {
      echo "run.sh: $answer has no $name" >&2
      exit 69
    }
    export "${line?}"
  done
}

refuse() {
  echo "run.sh: $1 could not be started, so '${*:2}' was not run" >&2
  exit 69
}

KAFKA='' NATS=''
if [ -z "${KAFKA_BOOTSTRAP:-}" ]; then
  begin kafka
  KAFKA=$!
elif [ -z "${KAFKA_CLASSPATH:-}" ]; then
  "$BEDS/kafka.sh" fetch >"$RUN/kafka.out" || refuse "Kafka's Java client" "$@"
  take "$RUN/kafka.out" KAFKA_CLASSPATH
fi
if [ -z "${NATS_URL:-}" ]; then
  begin nats
  NATS=$!
fi
if [ -n "$KAFKA" ]; then
  wait "$KAFKA" || refuse Kafka "$@"
  take "$RUN/kafka.out" KAFKA_BOOTSTRAP KAFKA_CLASSPATH
fi
if [ -n "$NATS" ]; then
  wait "$NATS" || refuse NATS "$@"
  take "$RUN/nats.out" NATS_URL
fi

STARTING=() # they are done, and their ids may be given to others
status=0
"$@" || status=$?
exit "$status"
