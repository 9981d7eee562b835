#!/usr/bin/env bash
# Measures, in one run and in alternation, as ratios (needs root, to enter the view):
#   - `python3 -c pass` warm inside the view against the same files in a plain directory;
#   - `echo hi` as a bash job through the API against a bare spawn of the same shell.
# Usage: contrib/bench/first-job.sh [ROUNDS]
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo build --release --locked --workspace --bins
PISTON_BENCH_ROUNDS="${1:-200}" cargo bench --locked -p piston-tests --bench first_job
