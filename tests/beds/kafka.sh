#!/usr/bin/env bash
# A real Apache Kafka (KRaft, on loopback) for tests, without a container engine: one node, or a
# cluster of them in which each is broker and controller.
#
#   kafka.sh start   --data DIR [--brokers N] [--profile plain|acl] [--port P] [--cache DIR]
#                    [--owner PID] [--advertise HOST:PORT,...] [--set [ID:]key=value ...]
#   kafka.sh restart --data DIR                     same data and ports; returns when it is ready
#   kafka.sh stop    --data DIR                     gracefully
#   kafka.sh kill    --data DIR [--signal KILL|STOP|CONT|TERM]
#   kafka.sh kill-broker  --data DIR --id ID [--signal KILL|STOP|CONT|TERM]
#   kafka.sh start-broker --data DIR --id ID        same data and ports; rejoins the others
#   kafka.sh fetch   [--cache DIR]                  downloads only
#
# With three brokers and more: replication factor 3 and min.insync.replicas 2, also for transactions.
# Ports of broker 1: P for clients, P+1 for the controller, P+2 for the other brokers and for tests;
# of broker 2 the next three, and so on. Without --port, free ones. --advertise makes clients of P go
# elsewhere, as to a proxy, one address a broker; P+2 always advertises itself.
# --profile acl: on P a client must log in by SASL/PLAIN (admin/admin-secret, bridge/bridge-secret,
# nobody/nobody-secret) and may do only what an ACL grants; admin, and whoever comes by P+2 without
# logging in, may do everything (Rights.java grants and revokes there).
# --set adds or overrides a setting, with "ID:" only that of one broker. With --owner the servers are
# stopped as soon as that process is gone. The last lines on standard output are KAFKA_DIRECT=
# 127.0.0.1:P+2, KAFKA_BOOTSTRAP=127.0.0.1:P (of a cluster: all, with commas between) and
# KAFKA_CLASSPATH=... (Kafka's own jars, for the .java files here).
#
# Needs java 17 or later, and mvn for the first run, which takes the jars from Maven Central into the
# cache (default: $ONBOARDING_BRIDGE_BED_CACHE, else .cache/beds in the repository). It never creates
# topics, listens on no other address than 127.0.0.1, and leaves DIR behind: remove it for a fresh one.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "${BASH_SOURCE[0]%/*}/lib.sh"

KAFKA_VERSION=4.4.0
SLF4J_VERSION=1.7.36
DEPENDENCY_PLUGIN=org.apache.maven.plugins:maven-dependency-plugin:3.8.1
HEAP=256m
PORTS=3
MEMBER=broker

# Under a lock, because neither two downloads nor two mvn in one local repository are of use;
# by rename, because a download may be interrupted.
fetch() {
  JARS=$CACHE/kafka-$KAFKA_VERSION
  [ ! -d "$JARS" ] || return 0
  command -v mvn >/dev/null || fail "mvn is needed to fetch Kafka $KAFKA_VERSION"
  (
    flock 9
    [ ! -d "$JARS" ] || exit 0
    work=$(mktemp -d "$CACHE/.kafka.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    cat >"$work/pom.xml" <<POM
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>bed</groupId><artifactId>kafka</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$KAFKA_VERSION</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>$SLF4J_VERSION</version>
    </dependency>
  </dependencies>
</project>
POM
    mvn -q -B -C -Dstyle.color=never -f "$work/pom.xml" "$DEPENDENCY_PLUGIN:copy-dependencies" \
      -DincludeScope=runtime -DoutputDirectory="$work/lib" </dev/null >&2 &&
      mv -T "$work/lib" "$JARS"
  ) 9>"$CACHE/.kafka.lock" || fail "Kafka $KAFKA_VERSION could not be fetched"
}

configure() {
  local formats=() pid
  [ -f "$DATA/cluster-id" ] || # 16 bytes; a first character of '-' would read as an option
    echo "B$(head -c 16 /dev/urandom | base64 | tr '+/' '-_' | cut -c 2-22)" >"$DATA/cluster-id"
  save JARS
  for node in $(all); do
    at_node "$node"
    { properties && settings; } >"$DIR/server.properties"
    [ ! -f "$DIR/log/meta.properties" ] || continue
    format &
    formats+=($!)
  done
  for pid in ${formats[@]+"${formats[@]}"}; do wait "$pid" || exit 1; done
}

# The settings of broker NODE.
properties() {
  local node voters='' copies=1 in_sync=1 protocol=PLAINTEXT
  for node in $(all); do voters+=${voters:+,}$node@127.0.0.1:$((PORT + (node - 1) * PORTS + 1)); done
  ((NODES < 3)) || copies=3 in_sync=2
  [ "$PROFILE" = plain ] || protocol=SASL_PLAINTEXT
  cat <<PROPERTIES
process.roles=broker,controller
node.id=$NODE
controller.quorum.voters=$voters
listeners=CLIENT://127.0.0.1:$NODE_PORT,CONTROLLER://127.0.0.1:$((NODE_PORT + 1)),DIRECT://127.0.0.1:$((NODE_PORT + 2))
advertised.listeners=CLIENT://$(advertised),DIRECT://127.0.0.1:$((NODE_PORT + 2))
listener.security.protocol.map=CLIENT:$protocol,CONTROLLER:PLAINTEXT,DIRECT:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=DIRECT
log.dirs=$DIR/log
# No topic by accident, and no record deleted because a test gave it an old timestamp.
auto.create.topics.enable=false
log.retention.ms=-1
# As many copies as a cluster of this size can keep.
default.replication.factor=$copies
min.insync.replicas=$in_sync
offsets.topic.replication.factor=$copies
offsets.topic.num.partitions=3
transaction.state.log.replication.factor=$copies
transaction.state.log.min.isr=$in_sync
transaction.state.log.num.partitions=3
share.coordinator.state.topic.replication.factor=$copies
share.coordinator.state.topic.min.isr=$in_sync
# Soon ready: consumers at once, a killed broker is missed after this session, a killed controller
# after this time.
group.initial.rebalance.delay.ms=0
broker.heartbeat.interval.ms=400
broker.session.timeout.ms=2000
controller.quorum.election.timeout.ms=500
controller.quorum.fetch.timeout.ms=1000
# Small.
num.network.threads=2
num.io.threads=2
background.threads=2
log.cleaner.dedupe.buffer.size=16777216
PROPERTIES
  [ "$PROFILE" = plain ] || cat <<'PROPERTIES'
listener.name.client.sasl.enabled.mechanisms=PLAIN
listener.name.client.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_admin="admin-secret" user_bridge="bridge-secret" user_nobody="nobody-secret";
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=false
super.users=User:admin;User:ANONYMOUS
PROPERTIES
}

# Prepares the data directory of broker NODE.
format() {
  java -XX:TieredStopAtLevel=1 -Dorg.slf4j.simpleLogger.defaultLogLevel=error -cp "$JARS/*" \
    kafka.tools.StorageTool format -t "$(<"$DATA/cluster-id")" -c "$DIR/server.properties" \
    </dev/null >"$DIR/format.log" 2>&1 || {
    cat "$DIR/format.log" >&2
    fail "the data directory could not be formatted"
  }
}

launch() {
  detach "$DIR/server.pid" "$DIR/server.log" java -Xms64m "-Xmx$HEAP" \
    -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:+ExitOnOutOfMemoryError \
    -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -Dorg.slf4j.simpleLogger.log.kafka.server=info \
    -Dorg.slf4j.simpleLogger.showDateTime=true -Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS \
    -cp "$JARS/*" kafka.Kafka "$DIR/server.properties"
}

# An open port alone comes too early.
ready() { grep -q 'Kafka Server started' "$DIR/server.log"; }

show_fetched() { echo "KAFKA_CLASSPATH=$JARS/*"; }

show() {
  echo "KAFKA_DIRECT=$(addresses '' 2)"
  echo "KAFKA_BOOTSTRAP=$(addresses '' 0)"
  show_fetched
}

main "$@"
