#!/usr/bin/env bash
# Passes all tests on a fresh machine that has Rust.
#
# As root it installs what the tests need; otherwise it says what is missing. Tests of the root
# mode can't run without root: they are then named as skipped, never silently.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\n== %s\n' "$*"; }

# command -> Debian package that brings it
needs=(
    mksquashfs:squashfs-tools fusermount3:fuse3 setpriv:util-linux losetup:mount pgrep:procps
    python3:python3 gcc:gcc g++:g++ curl:curl
)
PATH=$PATH:/usr/sbin:/sbin
missing=()
for need in "${needs[@]}"; do
    command -v "${need%%:*}" >/dev/null || missing+=("${need#*:}")
done
if [ ${#missing[@]} -gt 0 ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "Installing ${missing[*]}"
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
    else
        echo "The tests need these packages, please install them: ${missing[*]}" >&2
        exit 1
    fi
fi
if [ ! -c /dev/fuse ]; then
    if [ "$(id -u)" != 0 ] || ! modprobe fuse 2>/dev/null; then
        echo "The tests need /dev/fuse: load the kernel module with 'modprobe fuse'." >&2
        exit 1
    fi
fi
if [ "$(id -u)" != 0 ]; then
    export PISTON_TEST_ALLOW_SKIP="${PISTON_TEST_ALLOW_SKIP:+$PISTON_TEST_ALLOW_SKIP,}root"
    say "Not root: tests of the root mode are skipped (PISTON_TEST_ALLOW_SKIP=$PISTON_TEST_ALLOW_SKIP)"
fi

say "Building"
cargo build --locked --workspace --bins --tests

say "Documentation tests"
cargo test --locked --workspace --doc --quiet

# Runs the tests that a nextest filter selects; without nextest all tests of a cargo target share
# one process instead of having one each.
run_tests() {
    local filter=$1
    shift
    if cargo nextest --version >/dev/null 2>&1; then
        "${as[@]}" cargo nextest run --locked --workspace -E "$filter" "$@"
    elif [ "$filter" = "$mounts" ]; then
        "${as[@]}" cargo test --locked --workspace --test mounts "$@"
    elif [ "$filter" = "not ($mounts)" ]; then
        "${as[@]}" cargo test --locked --workspace --lib --bins "$@"
        "${as[@]}" cargo test --locked --workspace --test '[!m]*' "$@"
    else
        "${as[@]}" cargo test --locked --workspace --lib --bins --tests "$@"
    fi
}

say "Tests"
mounts="binary(mounts)"
as=()
if [ "$(id -u)" = 0 ]; then
    run_tests 'all()' "$@"
else
    run_tests "not ($mounts)" "$@"
    # The filesystem's own tests mount: a user may do that in a user namespace of his.
    as=(unshare --user --map-root-user --mount)
    run_tests "$mounts" "$@"
fi
