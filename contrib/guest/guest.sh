#!/usr/bin/env bash
# Tries Piston where this machine can't: boots a Debian with systemd, control groups of version 2
# and AppArmor in QEMU's plain emulation, and runs real jobs there as root and as a user, with
# delegation and without. Prints PASS and FAIL lines; ends with 1 when there is a FAIL.
#
#   contrib/guest/guest.sh [--suite trixie|bookworm] [--bin target/debug] [--dir DIR] [--mirror URL]
#
# Needs root (debootstrap), a Debian mirror (without --mirror the one that apt uses here), and qemu-system-x86 debootstrap busybox-static cpio kmod
# xz-utils e2fsprogs. The first run takes some minutes, what it made stays in DIR for the next.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
suite=trixie
bin=$here/../../target/debug
dir=${XDG_CACHE_HOME:-$HOME/.cache}/piston-guest
mirror=
while [ $# -gt 0 ]; do
    case $1 in
        --suite) suite=$2 ;;
        --bin) bin=$2 ;;
        --dir) dir=$2 ;;
        --mirror) mirror=$2 ;;
        *) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 2 ;;
    esac
    shift 2
done
PATH=$PATH:/usr/sbin:/sbin
for tool in debootstrap qemu-system-x86_64 busybox cpio depmod xz mke2fs strip; do
    command -v "$tool" >/dev/null || { echo "$tool is missing" >&2; exit 2; }
done
[ -n "$mirror" ] || mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | sed -n 1p)
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)/$suite
mkdir -p "$dir"
say() { printf '== %s\n' "$*"; }

# The system on a disk of its own, used as a snapshot: every run starts from the same.
build_system() {
    local root=$dir/root kernel
    say "Installing Debian $suite"
    rm -rf "$root" "$dir/kernel" && mkdir "$dir/kernel"
    debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,dbus-user-session,libpam-systemd,kmod,procps,uidmap,apparmor,linux-image-cloud-amd64 \
        "$suite" "$root" "$mirror" >"$dir/debootstrap.log"
    chroot "$root" useradd --create-home --uid 1000 --shell /bin/bash user
    chroot "$root" useradd --create-home --uid 1001 --shell /bin/bash other
    sed -i /^other:/d "$root/etc/subuid" "$root/etc/subgid"
    mkdir -p "$root/var/lib/systemd/linger" "$root/opt/piston"
    touch "$root/var/lib/systemd/linger/user"
    echo fuse >"$root/etc/modules-load.d/fuse.conf"
    echo 'KERNEL=="fuse", MODE="0666"' >"$root/etc/udev/rules.d/99-fuse.rules"
    printf '%s\n' '[Unit]' 'After=multi-user.target systemd-logind.service user@1000.service' \
        '[Service]' 'Type=oneshot' 'StandardOutput=tty' 'StandardError=tty' 'TTYPath=/dev/ttyS0' \
        'ExecStartPre=/bin/mount -o ro /dev/vdb /opt/piston' 'ExecStart=/opt/piston/inside.sh' 'ExecStopPost=/bin/systemctl poweroff --force --force' \
        '[Install]' 'WantedBy=multi-user.target' >"$root/etc/systemd/system/piston-guest.service"
    chroot "$root" systemctl enable -q piston-guest.service
    chroot "$root" systemctl mask -q serial-getty@ttyS0.service getty@tty1.service apt-daily.timer
    kernel=$(basename "$root"/boot/vmlinuz-*)
    kernel=${kernel#vmlinuz-}
    cp "$root/boot/vmlinuz-$kernel" "$dir/kernel/vmlinuz"
    build_initramfs "$root" "$kernel"
    rm -rf "$root"/boot/* "$root"/var/cache/apt "$root"/var/lib/apt/lists
    mke2fs -q -t ext4 -d "$root" "$dir/system.img.new" 2G
    rm -rf "$root"
    mv "$dir/system.img.new" "$dir/system.img"
}

# A busybox with the modules of the disks, in the order of their needs.
build_initramfs() {
    local root=$1 kernel=$2 tree=$dir/kernel/initramfs module at=0
    mkdir -p "$tree"/{bin,mod,proc,sys,dev,new}
    cp "$(command -v busybox)" "$tree/bin/busybox"
    depmod -b "$root" "$kernel"
    for module in virtio_pci virtio_blk ext4; do
        modprobe -d "$root" -S "$kernel" --show-depends "$module" 2>/dev/null |
            sed -n 's/^insmod \([^ ]*\).*/\1/p'
    done | awk '!seen[$0]++' | while read -r file; do
        at=$((at + 1))
        module=$tree/mod/$(printf '%02d' $at).ko
        case $file in
            *.xz) xz -dc "$file" >"$module" ;;
            *) cp "$file" "$module" ;;
        esac
    done
    cat >"$tree/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox mount -t proc p /proc
/bin/busybox mount -t sysfs s /sys
/bin/busybox mount -t devtmpfs d /dev
for module in /mod/*.ko; do /bin/busybox insmod "$module"; done
n=0
while [ ! -b /dev/vda ] && [ $n -lt 50 ]; do /bin/busybox sleep 0.1; n=$((n + 1)); done
/bin/busybox mount -t ext4 /dev/vda /new
/bin/busybox umount /proc /sys
/bin/busybox mount --move /dev /new/dev
exec /bin/busybox switch_root /new /lib/systemd/systemd
INIT
    chmod 755 "$tree/init"
    (cd "$tree" && find . | cpio --quiet -o -H newc | gzip) >"$dir/kernel/initramfs.gz"
    rm -rf "$tree"
}

# What is tried, on a second disk: made anew each time.
build_payload() {
    local tree=$dir/payload name
    say "Packing $bin"
    rm -rf "$tree" && mkdir -p "$tree/packages"
    for name in pistond piston; do strip -o "$tree/$name" "$bin/$name"; done
    cp "$here/inside.sh" "$tree/"
    for name in base bash python; do "$bin/pistond" make host "$name" --output "$tree/packages" >/dev/null; done
    "$bin/pistond" index "$tree/packages" >/dev/null
    mke2fs -q -t ext4 -d "$tree" "$dir/payload.img" 512M
    rm -rf "$tree"
}

[ -s "$dir/system.img" ] || build_system
build_payload
say "Booting"
# Without cx16: Linux 6.12 uses it in a form that QEMU 7.2 emulates wrongly.
timeout 1500 qemu-system-x86_64 -accel tcg,thread=multi -cpu max,-cx16 -smp 2 -m 2048 \
    -display none -monitor none -serial stdio -no-reboot -nic none \
    -kernel "$dir/kernel/vmlinuz" -initrd "$dir/kernel/initramfs.gz" \
    -append "console=ttyS0 panic=-1 quiet root=/dev/vda rw systemd.show_status=0" \
    -drive "file=$dir/system.img,if=virtio,format=raw,snapshot=on" \
    -drive "file=$dir/payload.img,if=virtio,format=raw,snapshot=on" </dev/null |
    stdbuf -oL tr -d '\r' | stdbuf -oL sed 's/^.*== Linux/== Linux/' | tee "$dir/console.log" | grep --line-buffered -E '^(PASS|FAIL|NOTE|==)' || true
if ! grep -q '^== done' "$dir/console.log"; then
    echo "FAIL the guest did not come to its end, see $dir/console.log"
    exit 1
fi
! grep -q '^FAIL' "$dir/console.log"
