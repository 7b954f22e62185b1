#!/usr/bin/env bash
# A real Apache Kafka (KRaft, one node, plaintext on loopback) for tests, without a container engine.
#
#   kafka.sh start   --data DIR [--port N] [--cache DIR] [--owner PID] [--set key=value ...]
#   kafka.sh restart --data DIR                     same data and port; returns when it is ready
#   kafka.sh stop    --data DIR                     gracefully
#   kafka.sh kill    --data DIR [--signal KILL|STOP|CONT|TERM]
#   kafka.sh fetch   [--cache DIR]                  downloads only
#
# Ports: N for clients, N+1 for the controller, N+2 a second client listener that always advertises
# itself, for a test that has `--set advertised.listeners=CLIENT://...` point N at a proxy. Without
# --port, free ones. --set adds or overrides a broker setting. With --owner the server is stopped as
# soon as that process is gone. The last lines on standard output are KAFKA_DIRECT=127.0.0.1:N+2,
# KAFKA_BOOTSTRAP=127.0.0.1:N and KAFKA_CLASSPATH=... (Kafka's own jars, for ReadTopic.java).
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
  cat >"$DATA/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$((PORT + 1))
listeners=CLIENT://127.0.0.1:$PORT,CONTROLLER://127.0.0.1:$((PORT + 1)),DIRECT://127.0.0.1:$((PORT + 2))
advertised.listeners=CLIENT://127.0.0.1:$PORT,DIRECT://127.0.0.1:$((PORT + 2))
listener.security.protocol.map=CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT,DIRECT:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=DIRECT
log.dirs=$DATA/log
# No topic by accident, and no record deleted because a test gave it an old timestamp.
auto.create.topics.enable=false
log.retention.ms=-1
# One node.
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=3
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=3
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
# Soon ready: consumers at once, and a killed broker may register again after this session.
group.initial.rebalance.delay.ms=0
broker.heartbeat.interval.ms=400
broker.session.timeout.ms=2000
# Small.
num.network.threads=2
num.io.threads=2
background.threads=2
log.cleaner.dedupe.buffer.size=16777216
PROPERTIES
  [ ${#SETTINGS[@]} -eq 0 ] || printf '%s\n' "${SETTINGS[@]}" >>"$DATA/server.properties"
  save PORT JARS OWNER
  [ ! -f "$DATA/log/meta.properties" ] || return 0
  local id # 16 bytes; a first character of '-' would read as an option
  id=B$(head -c 16 /dev/urandom | base64 | tr '+/' '-_' | cut -c 2-22)
  java -XX:TieredStopAtLevel=1 -Dorg.slf4j.simpleLogger.defaultLogLevel=error -cp "$JARS/*" \
    kafka.tools.StorageTool format -t "$id" -c "$DATA/server.properties" \
    </dev/null >"$DATA/format.log" 2>&1 || {
    cat "$DATA/format.log" >&2
    fail "the data directory could not be formatted"
  }
}

launch() {
  detach "$DATA/server.pid" "$DATA/server.log" java -Xms64m "-Xmx$HEAP" \
    -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:+ExitOnOutOfMemoryError \
    -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -Dorg.slf4j.simpleLogger.log.kafka.server=info \
    -Dorg.slf4j.simpleLogger.showDateTime=true -Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS \
    -cp "$JARS/*" kafka.Kafka "$DATA/server.properties"
}

# An open port alone comes too early.
ready() { grep -q 'Kafka Server started' "$DATA/server.log"; }

show_fetched() { echo "KAFKA_CLASSPATH=$JARS/*"; }

show() {
  echo "KAFKA_DIRECT=127.0.0.1:$((PORT + 2))"
  echo "KAFKA_BOOTSTRAP=127.0.0.1:$PORT"
  show_fetched
}

main "$@"
