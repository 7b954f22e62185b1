#!/usr/bin/env bash
# What transactions cost: the same events into Kafka without and with `exactly_once: true`.
#
#   tests/beds/run.sh tests/beds/cost.sh PROGRAM [EVENTS] [RATE] [SECONDS]
#
# For each mode: a journal of EVENTS (default 60000) is delivered to a new topic as fast as it goes
# (records/s), then RATE events/s (default 1000) are followed for SECONDS (default 15) from the
# vendor's timestamp to the acknowledgement (mean and upper bounds of quantiles, in ms).
# Needs curl, python3, and KAFKA_BOOTSTRAP and KAFKA_CLASSPATH from run.sh. It writes only to a folder
# of its own, and ends only what it started.
set -euo pipefail
PROGRAM=$1 EVENTS=${2:-60000} RATE=${3:-1000} SECONDS_LONG=${4:-15}
WORK=$(mktemp -d "${TMPDIR:-/tmp}/onboarding-bridge-cost.XXXXXX")
PIDS=()
# shellcheck disable=SC2317 # reached by the trap
finish() {
  local pid
  for pid in ${PIDS[@]+"${PIDS[@]}"}; do kill "$pid" 2>/dev/null || true; done
  wait
  rm -rf "$WORK"
}
trap finish EXIT

cat >"$WORK/CreateTopic.java" <<'JAVA'
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;

public class CreateTopic {
    public static void main(String[] args) throws Exception {
        System.setProperty("org.slf4j.simpleLogger.defaultLogLevel", "error");
        try (Admin admin = Admin.create(Map.<String, Object>of("bootstrap.servers", args[0]))) {
            admin.createTopics(List.of(new NewTopic(args[1], 6, (short) 1))).all().get();
        }
    }
}
JAVA

topic() { java -cp "$KAFKA_CLASSPATH" "$WORK/CreateTopic.java" "$KAFKA_BOOTSTRAP" "$1"; }

# Starts "$@" with its log in file $LOG, and waits for `"address":"..."` or a listening line in it.
begin() {
  "$@" >"$LOG" 2>&1 &
  PIDS+=($!)
  for _ in $(seq 200); do
    ADDRESS=$(grep -oE '(ws://|"address":")[0-9.]+:[0-9]+' "$LOG" | head -1 | grep -oE '[0-9.]+:[0-9]+' || true)
    [ -z "$ADDRESS" ] || return 0
    sleep 0.1
  done
  cat "$LOG" >&2
  exit 1
}

metric() { curl -sf "http://$ADDRESS/metrics" | grep -F "onboarding_bridge_$1" | awk '{s+=$2} END {printf "%d", s}'; }

config() {
  cat <<YAML
feed: {url: 'ws://$VENDOR/ws', api_key: example-enterprise-key}
reconcile: {url: 'http://$VENDOR'}
journal: {path: $WORK/$1.db}
admin: {listen: '127.0.0.1:0'}
sinks:
$2
YAML
}

kafka() { echo "  - {name: kafka, type: kafka, brokers: ['$KAFKA_BOOTSTRAP'], topic: $1, exactly_once: $2}"; }

stop() {
  kill "${PIDS[-1]}"
  wait "${PIDS[-1]}" || true
  unset 'PIDS[-1]'
}

LOG=$WORK/vendor.log
begin "$PROGRAM" simulate --listen 127.0.0.1:0 --users 20000 --rate 5000 --events "$EVENTS"
VENDOR=$ADDRESS
LOG=$WORK/fill.log
config journal "  - {name: file, type: file, path: $WORK/events.jsonl}" >"$WORK/fill.yaml"
begin "$PROGRAM" run --config "$WORK/fill.yaml"
for _ in $(seq 600); do
  [ "$(metric 'feed_frames_total{kind="event"}')" -lt "$EVENTS" ] || break
  sleep 0.2
done
stop
stop # the vendor as well
for mode in false true; do
  topic "cost-$mode"
  cp "$WORK/journal.db" "$WORK/$mode.db"
  config "$mode" "$(kafka "cost-$mode" "$mode")" >"$WORK/$mode.yaml"
  LOG=$WORK/$mode.log
  begin "$PROGRAM" run --config "$WORK/$mode.yaml"
  python3 - "$ADDRESS" "$EVENTS" "$mode" <<'PY'
import sys, time, urllib.request
address, events, mode = sys.argv[1], int(sys.argv[2]), sys.argv[3]
def published():
    text = urllib.request.urlopen(f"http://{address}/metrics").read().decode()
    return next(float(l.split()[-1]) for l in text.splitlines()
                if l.startswith('onboarding_bridge_sink_published_total{sink="kafka"}'))
while (first := published()) < events / 20: time.sleep(0.005)
begin = time.monotonic()
while (last := published()) < events * 0.95: time.sleep(0.005)
took = time.monotonic() - begin
print(f"exactly_once {mode}: catching up {(last - first) / took:,.0f} records/s", flush=True)
PY
  stop
  LOG=$WORK/vendor-$mode.log
  begin "$PROGRAM" simulate --listen 127.0.0.1:0 --users 2000 --rate "$RATE"
  VENDOR=$ADDRESS
  config "steady-$mode" "$(kafka "cost-$mode" "$mode")" >"$WORK/$mode.yaml"
  LOG=$WORK/$mode.log
  begin "$PROGRAM" run --config "$WORK/$mode.yaml"
  sleep 5 # the first list, and its 2,000 users
  curl -sf "http://$ADDRESS/metrics" >"$WORK/before"
  sleep "$SECONDS_LONG"
  curl -sf "http://$ADDRESS/metrics" >"$WORK/after"
  python3 - "$WORK/before" "$WORK/after" "$mode" <<'PY'
import re, sys
def read(path, metric):
    buckets, total, count = {}, 0.0, 0.0
    for line in open(path):
        if not line.startswith(f"onboarding_bridge_{metric}_"): continue
        value = float(line.split()[-1])
        if "_bucket{" in line: buckets[float(re.search('le="([^"]+)"', line)[1])] = value
        elif "_sum{" in line: total = value
        elif "_count{" in line: count = value
    return buckets, total, count
for metric, words in [("sink_event_lag_seconds", "vendor to acknowledgement"),
                      ("sink_publish_duration_seconds", "one batch")]:
    (b0, s0, c0), (b1, s1, c1) = (read(path, metric) for path in sys.argv[1:3])
    count = c1 - c0
    at = lambda q: next(le for le in sorted(b1) if b1[le] - b0[le] >= q * count) * 1000
    print(f"exactly_once {sys.argv[3]}: {words}: {count:.0f} samples, mean {(s1 - s0) / count * 1000:.1f} ms, "
          f"p50 <= {at(.5):g} ms, p99 <= {at(.99):g} ms", flush=True)
PY
  stop
  stop
done
