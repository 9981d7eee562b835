#!/usr/bin/env bash
# Fuzzes what reads untrusted bytes, with libFuzzer on a stable compiler.
# Usage: contrib/fuzz.sh [verifier|index|block] [SECONDS]      (default: each for 60 s)
#
# Begins with what tests/fuzz/corpus/TARGET holds; what is found is kept in target/fuzz, and a
# case that fails is named there. Such a case belongs into tests/fuzz/corpus: the tests run it.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${2:-60}
export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1"
host=$(rustc -vV | sed -n 's/^host: //p')
# With --target the flags are not for build scripts and macros, which can't have them.
cargo build --locked --release --manifest-path tests/fuzz/Cargo.toml --target "$host" --target-dir target/fuzz

scratch=$(mktemp -d -p /dev/shm)
trap 'rm -rf "$scratch"' EXIT
for target in ${1:-verifier index block}; do
    mkdir -p "target/fuzz/corpus/$target"
    TMPDIR=$scratch nice -n 19 "target/fuzz/$host/release/$target" -max_total_time="$seconds" \
        -max_len=16384 -timeout=10 -rss_limit_mb=512 -artifact_prefix="target/fuzz/$target-" \
        "target/fuzz/corpus/$target" "tests/fuzz/corpus/$target" tests/fuzz/images
done
