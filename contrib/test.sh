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
    mksquashfs:squashfs-tools tar2sqfs:squashfs-tools-ng fusermount3:fuse3 setpriv:util-linux losetup:mount pgrep:procps
    newuidmap:uidmap /usr/bin/python3:python3 gcc:gcc g++:g++ curl:curl strace:strace gpg:gnupg
    pip3:python3-pip node:nodejs npm:npm chromium:chromium nginx:nginx-light openssl:openssl haproxy:haproxy caddy:caddy
    docker-registry:docker-registry php:php-cli
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
# Languages of this machine become packages where they are here.
for language in lua ruby javac go; do
    if ! command -v $language >/dev/null; then
        export PISTON_TEST_ALLOW_SKIP="${PISTON_TEST_ALLOW_SKIP:+$PISTON_TEST_ALLOW_SKIP,}$language"
        say "No $language: that a package can be made of it is not tested"
    fi
done
# Recipes are built from what apt's lists name.
if ! compgen -G '/var/lib/apt/lists/*_Packages*' >/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "Getting apt's lists"
        apt-get update -qq
    else
        export PISTON_TEST_ALLOW_SKIP="${PISTON_TEST_ALLOW_SKIP:+$PISTON_TEST_ALLOW_SKIP,}apt-lists"
        say "No lists of apt: tests that build packages of Debian's are skipped (apt-get update gets them)"
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

say "Tests"
# The filesystem's own tests own other users' files and mount: a user may do that in a user
# namespace. Without nextest the tests of one target share a process instead of having one each.
as_root_of_its_own=(unshare --user --map-root-user --mount)
if cargo nextest --version >/dev/null 2>&1; then
    own="binary(mounts) | binary(images)"
    if [ "$(id -u)" = 0 ]; then
        cargo nextest run --locked --workspace "$@"
    else
        cargo nextest run --locked --workspace -E "not ($own)" "$@"
        "${as_root_of_its_own[@]}" cargo nextest run --locked --workspace -E "$own" "$@"
    fi
else
    others=(--lib --bins --examples --test cli --test wire --test sandbox --test it)
    if [ "$(id -u)" != 0 ]; then
        set -- "${as_root_of_its_own[@]}"
    else
        set --
    fi
    cargo test --locked --workspace "${others[@]}"
    "$@" cargo test --locked --workspace --test mounts --test images --test fuzz
fi
