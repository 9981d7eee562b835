#!/usr/bin/env bash
# Measures the cache, each figure beside its anchor in the same run (needs root):
#   latency  output hits one at a time, beside hyper's hello world
#   rate     output hits over 16 connections and 10,000 entries, beside hyper's hello world
#   binary   C++ hello: binary hits, misses, the same program without a compile stage
#   blocked  misses while every commit of the cache takes 50 ms longer (needs strace)
#   million  look-ups, memory and the start with 1,000,000 entries, beside 1,000
# Usage: contrib/bench/cache.sh [PART]...
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo build --release --locked --workspace --bins
cargo bench --locked -p piston-tests --bench cache -- "$@"
