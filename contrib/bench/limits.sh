#!/usr/bin/env bash
# Measures how late the wall limit is noticed, by the wall time of the replies themselves: alone, and
# beside programs that keep all processors busy. Fails when the promise is broken. Needs root.
# Usage: contrib/bench/limits.sh [ROUNDS]
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo build --release --locked --workspace --bins
PISTON_BENCH_ROUNDS="${1:-100}" cargo bench --locked -p piston-tests --bench limits
