#!/bin/sh
# Cargo's RUSTC_WORKSPACE_WRAPPER for fuzzing: the bridge's own code gets libFuzzer's coverage counters,
# its dependencies are those that are built already. The flags are those of cargo-fuzz, on stable Rust.
case " $* " in
  *" --crate-name build_script_"*) exec "$@" ;; # it is run by itself, without libFuzzer
esac
exec "$@" --cfg fuzzing -Ccodegen-units=1 -Cpasses=sancov-module \
  -Cllvm-args=-sanitizer-coverage-level=4 \
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
  -Cllvm-args=-sanitizer-coverage-pc-table \
  -Cllvm-args=-sanitizer-coverage-trace-compares
