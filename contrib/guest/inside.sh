#!/bin/bash
# Runs in the guest that guest.sh boots: daemons in every situation, and real jobs in each.
# One line for each thing that was tried: PASS or FAIL and what.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
at=/opt/piston
work=/run/piston-guest

say() { echo "== $*"; }
pass() { echo "PASS $scenario: $*"; }
fail() { echo "FAIL $scenario: $*"; }
# check WHAT EXPECTED GOT
check() { case $3 in $2) pass "$1" ;; *) fail "$1: expected $2, got: $(tr '\n' ' ' <<<"$3" | cut -c1-400)" ;; esac; }

# A value of a job's reply.
value() { sed -n "s/^ *\"$1\": \(.*[^,]\),\{0,1\}\$/\1/p" | head -1; }
job() { "${as[@]}" env PISTON_HOST="unix://$socket" $at/piston --json run "$@" 2>&1; }

# The daemon of a scenario: its command is the arguments, run in the background by the caller's means.
wait_ready() {
    local n=0
    until "${as[@]}" env PISTON_HOST="unix://$socket" $at/piston status >/dev/null 2>&1; do
        n=$((n + 1))
        [ $n -gt 120 ] && { fail "the daemon is ready"; cat "$home/log"; return 1; }
        sleep 0.5
    done
    {
        "${as[@]}" env PISTON_HOST="unix://$socket" $at/piston repo add mine "file://$at/packages/index.yaml" &&
            "${as[@]}" env PISTON_HOST="unix://$socket" $at/piston package install python &&
            "${as[@]}" env PISTON_HOST="unix://$socket" $at/piston package install bash
    } >"$home/install.log" 2>&1 || { fail "packages are installed"; cat "$home/install.log"; return 1; }
}

# What every daemon has to do, and what `/info` has to say: version 2 or none.
# An emulated processor is slow: the limits on time are wide.
try_jobs() {
    local want=$1 out
    out=$("${as[@]}" env PISTON_HOST="unix://$socket" $at/piston --json status 2>&1)
    check "status names the control groups: $want" "*$want*" "$(grep -B3 '"name": "cgroup"' <<<"$out")"
    out=$(printf 'echo hi' | job bash -)
    check "a job runs" '*hi*' "$out"
    printf '%s\n' 'import os,time' 'for _ in range(4):' ' if os.fork()==0:' '  held=b"x"*(20<<20); time.sleep(60)' 'time.sleep(60)' >"$home/bomb.py"
    out=$(job -m 48M -t 60s python "$home/bomb.py")
    check "children together over the memory limit are ML" '*"ML"*' "$out"
    printf '%s\n' 'import os' 'n=0' 'try:' ' while True:' '  if os.fork()==0: os.read(os.pipe()[0],1)' '  n+=1' 'except BlockingIOError: print("made",n)' >"$home/fork.py"
    out=$(job -t 60s python "$home/fork.py")
    check "a fork bomb is held to its processes" '*made 6[0-4]*' "$out"
    out=$(printf 'while :; do :; done' | job -t 60s bash -)
    check "processor time over its limit is TO" '*Time limit exceeded"*' "$out"
    printf '%s\n' 'held=b"x"*(60<<20)' 'print("held")' >"$home/held.py"
    local first second
    first=$(job python "$home/held.py" | value memory_bytes)
    second=$(job python "$home/held.py" | value memory_bytes)
    [ -n "$first" ] && [ -n "$second" ] && [ $((first > second ? first - second : second - first)) -lt $((first / 20)) ] &&
        [ "$first" -gt $((60 << 20)) ] && [ "$first" -lt $((90 << 20)) ] &&
        pass "equal jobs have equal peaks: $first $second" || fail "equal jobs have equal peaks: '$first' '$second'"
    out=$(printf 'cat /proc/self/cgroup; id -u' | job bash -)
    check "a job sees no group of the host" '*"0::/\\n1000\\n"*' "$out"
}

# Version 2 only: where jobs are, and that nothing is left.
try_groups() {
    local parent group
    printf 'sleep 5' | job -t 20s bash - >/dev/null &
    sleep 2
    group=$(grep -l . /sys/fs/cgroup/$1/piston-[0-9a-f][0-9a-f]*/[0-9]*/cgroup.procs 2>/dev/null | while read -r f; do [ -n "$(cat "$f")" ] && dirname "$f"; done | head -1)
    [ -n "$group" ] && pass "a job is in a group below $1" || { fail "a job is in a group below $1"; find /sys/fs/cgroup -name 'piston-[0-9a-f][0-9a-f]*'; }
    if [ -n "$group" ]; then
        parent=${group%/*}
        check "its memory is limited" 536870912 "$(cat "$group/memory.max")"
        check "its swap is off" 0 "$(cat "$parent/memory.swap.max" 2>/dev/null || echo 0)"
        check "its processes are limited" 64 "$(cat "$group/pids.max")"
        check "it dies as a whole" 1 "$(cat "$group/memory.oom.group")"
        check "all jobs together are limited" '[0-9]*' "$(cat "$parent/memory.max")"
    fi
    wait
}

gone() {
    local left
    left=$(find /sys/fs/cgroup -type d -name 'piston-[0-9a-f][0-9a-f]*' | head -3)
    check "no group is left" "" "$left"
}

config() {
    mkdir -p "$home" && printf '%s\n' '[filesystem]' "mount = \"$home/fs\"" '[limits.run]' 'wall_time = "60s"' 'cpu_time = "30s"' >"$home/piston.toml"
    chown -R "${owner:-root}" "$home"
}
arguments() { echo "serve --config $home/piston.toml --socket $socket --data $home/data"; }
setup() {
    scenario=$1 home=$work/$1 socket=$work/$1/s
    say "$scenario"
    config
}
user() { runuser -u user -- env XDG_RUNTIME_DIR=/run/user/1000 DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/1000/bus HOME=/home/user "$@"; }

mkdir -p $work
chmod 755 $work
say "Linux $(uname -r), $(systemctl --version | head -1), lsm $(cat /sys/kernel/security/lsm), $(stat -fc %T /sys/fs/cgroup)"
modprobe fuse; chmod 0666 /dev/fuse
for _ in $(seq 100); do [ -S /run/user/1000/bus ] && break; sleep 0.3; done

as=(env)
setup root-service
systemd-run -q --unit=piston-root -p Delegate=yes -p StandardOutput=append:$home/log -p StandardError=append:$home/log $at/pistond $(arguments)
if wait_ready; then try_jobs "version 2"; try_groups system.slice/piston-root.service; fi
# Killed, and started again: what is left is swept.
printf 'sleep 30' | job -t 60s bash - >/dev/null 2>&1 &
sleep 1
systemctl kill -s KILL --kill-whom=main piston-root; wait
systemctl stop piston-root 2>/dev/null; systemctl reset-failed piston-root 2>/dev/null
gone

setup root-shell
$at/pistond $(arguments) >$home/log 2>&1 &
daemon=$!
if wait_ready; then
    try_jobs "version 2"
    printf 'sleep 30' | job -t 60s bash - >/dev/null 2>&1 &
    client=$!
    sleep 1
    kill -KILL $daemon; wait $daemon 2>/dev/null; wait $client
    $at/pistond $(arguments) >$home/log 2>&1 &
    daemon=$!
    wait_ready && check "a daemon that was killed starts again with its groups" '*hi*' "$(printf 'echo hi' | job bash -)"
fi
kill $daemon; wait $daemon
gone

owner=user as=(user)
setup user-service
user systemd-run --user -q --unit=piston-user -p Delegate=yes -p StandardOutput=append:$home/log -p StandardError=append:$home/log $at/pistond $(arguments)
if wait_ready; then try_jobs "version 2"; try_groups user.slice/user-1000.slice/user@1000.service/app.slice/piston-user.service; fi
user systemctl --user stop piston-user
gone

setup user-without-delegation
runuser -u user -- $at/pistond $(arguments) >$home/log 2>&1 &
daemon=$!
if wait_ready; then
    try_jobs "no control group is delegated"
    check "the remedy is exact" '*systemd-run --user --scope -p Delegate=yes*' "$(user env PISTON_HOST=unix://$socket $at/piston status)"
fi
pkill -TERM -P $daemon; wait $daemon

owner=other as=(runuser -u other --)
setup user-without-subuids
runuser -u other -- $at/pistond $(arguments) >$home/log 2>&1 &
daemon=$!
if wait_ready; then try_jobs "no control group is delegated"; fi
pkill -TERM -P $daemon; wait $daemon

setup userns-forbidden
check "check names the setting" '*user.max_user_namespaces*' "$(echo 0 >/proc/sys/user/max_user_namespaces; runuser -u user -- $at/pistond check; echo 10000 >/proc/sys/user/max_user_namespaces)"
if [ -e /proc/sys/kernel/unprivileged_userns_clone ]; then
    check "check names Debian's setting" '*kernel.unprivileged_userns_clone*' "$(echo 0 >/proc/sys/kernel/unprivileged_userns_clone; runuser -u user -- $at/pistond check; echo 1 >/proc/sys/kernel/unprivileged_userns_clone)"
fi
if [ -e /proc/sys/kernel/apparmor_restrict_unprivileged_userns ]; then
    check "check names AppArmor" '*apparmor*' "$(echo 1 >/proc/sys/kernel/apparmor_restrict_unprivileged_userns; runuser -u user -- $at/pistond check; echo 0 >/proc/sys/kernel/apparmor_restrict_unprivileged_userns)"
else
    echo "NOTE this kernel can't restrict user namespaces by AppArmor"
fi
say "done"
