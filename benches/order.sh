#!/usr/bin/env bash
# Writes .cargo/order.txt anew: the functions that a start and some thousand events to Kafka and to JetStream
# run, as callgrind sees them. `make link-order` calls it, which has built the benchmark; needs valgrind, and
# the servers of tests/beds/run.sh. With --bridge's arguments it is the bridge under callgrind.
set -euo pipefail
work=target/order

if [ "${1:-}" = run ]; then
  exec valgrind --quiet --tool=callgrind --demangle=no --callgrind-out-file="$work/calls" "$work/bridge" "$@"
fi

rm -rf "$work"
mkdir -p "$work"
# Without this list, so that one build does not depend on the last; with its names.
: >.cargo/order.txt
cargo rustc --release --locked --bin onboarding-bridge -- -C strip=none
cp "${CARGO_TARGET_DIR:-target}/release/onboarding-bridge" "$work/bridge"
cargo bench --locked --bench bridge -- both --alone --events 5000 --rounds 1 --bridge "$PWD/benches/order.sh"
nm "$work/bridge" | awk '$2 ~ /^[tT]$/ { print $3 }' >"$work/names"
sed -nE 's/^c?fn=\([0-9]+\) ([^'\'']+).*/\1/p' "$work/calls" \
  | grep -Fxf "$work/names" \
  | sed -E 's/17h[0-9a-f]{16}E.*$/E/' \
  | awk '!seen[$0]++' >.cargo/order.txt
echo "order.sh: $(wc -l <.cargo/order.txt) functions of $(wc -l <"$work/names")"
