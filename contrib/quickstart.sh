#!/usr/bin/env bash
# From a fresh checkout to a Python program run in a sandbox: builds, starts a daemon (rootless
# when you are not root), packs this machine's Python, installs it and runs a program in it.
#
# Run it again at any time: it reuses what is there. `contrib/quickstart.sh stop` ends the daemon.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }

bin() {
    cargo metadata --format-version 1 --no-deps --offline |
        sed 's|.*"target_directory":"\([^"]*\)".*|\1/release|'
}
if [ "${1:-}" = stop ]; then
    exec "$(bin)/piston" daemon stop
elif [ $# -gt 0 ]; then
    echo "usage: contrib/quickstart.sh [stop]" >&2
    exit 2
fi

for tool in cargo cc; do
    if ! command -v "$tool" >/dev/null; then
        echo "$tool is missing: install Rust from https://rustup.rs and a C compiler (Debian: apt-get install gcc)." >&2
        exit 1
    fi
done

say "Building (the first time takes some minutes)"
cargo build --release --locked -p pistond -p piston-client
bin=$(bin)

say "Looking at what this machine offers"
if report=$("$bin/pistond" check); then
    echo "Jobs can run here; \`pistond check\` has the details."
else
    echo "$report"
    exit 1
fi

say "Starting the daemon"
"$bin/piston" daemon start

say "Packing and installing this machine's Python"
if "$bin/piston" package list | grep -q '^python '; then
    echo "Installed already"
elif command -v python3 >/dev/null; then
    "$bin/piston" package from-host python --install
else
    echo "There is no python3 on this machine: install one (Debian: apt-get install python3) and run this again." >&2
    exit 1
fi

say "Running a program in it"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat >"$folder/hello.py" <<'PYTHON'
import os, platform, sys

print(f"Hello from Python {platform.python_version()}, sandboxed.")
print(f"I am process {os.getpid()}, user {os.getuid()}, on host {platform.node()!r};")
print(f"my input was {sys.stdin.read().strip()!r}, my directory holds {os.listdir()}.")
PYTHON
echo '$ echo "some input" | piston run hello.py'
echo "some input" | "$bin/piston" run "$folder/hello.py"

socket=$("$bin/piston" status --json | sed -n 's|^  "host": "unix://\(.*\)",$|\1|p')
say "What to try next"
cat <<TXT
  export PATH="$bin:\$PATH"
  piston run YOUR_FILE.py                     # piston run --help: input, arguments, limits
  piston package install lua                  # made of what Debian has packaged, where apt is
  piston package from-host gcc --install      # C and C++, when this machine has gcc
  piston status
  curl --unix-socket $socket -H 'Content-Type: application/json' \\
       -d '{"code": "print(6 * 7)"}' 'http://piston/api/v3/packages/python/*/execute'
  piston daemon stop                          # keeps what is installed
TXT
