//! The `base` package: what every language package stands on.
//!
//! libc and its loader, a shell, the tools that scripts expect, C.UTF-8, time zones, and an
//! `/etc` of our own making: of the host's `/etc` only what is on the collector's allow-list, and
//! its users are never in a package. Has no `run`: it can be depended on, not executed.

use std::fs;
use std::path::Path;

use super::super::error::MakeError;
use super::super::package::{Description, Draft};
use super::super::plan::Plan;
use super::Host;
use super::collect::Collector;

/// Its name.
pub(in super::super) const NAME: &str = "base";

/// The shells; the first must be there.
const SHELLS: [&str; 2] = ["/bin/sh", "/bin/bash"];

/// Tools by the package that Debian has them in. Each is taken if the host has it: what a
/// minimal container lacks, its packages lack as well.
const TOOLS: [&str; 12] = [
    // coreutils
    "[ arch b2sum base32 base64 basename basenc cat chgrp chmod chown cksum comm cp csplit cut \
     date dd df dir dircolors dirname du echo env expand expr factor false fmt fold groups head \
     hostid id install join link ln logname ls md5sum mkdir mkfifo mknod mktemp mv nice nl nohup \
     nproc numfmt od paste pathchk pr printenv printf ptx pwd readlink realpath rm rmdir seq \
     sha1sum sha224sum sha256sum sha384sum sha512sum shred shuf sleep sort split stat stdbuf stty \
     sum sync tac tail tee test timeout touch tr true truncate tsort tty uname unexpand uniq \
     unlink users vdir wc who whoami yes",
    // grep, sed, awk
    "grep egrep fgrep sed awk mawk gawk",
    // findutils
    "find xargs",
    // diffutils
    "cmp diff diff3 sdiff",
    // tar
    "tar",
    // compressors
    "gzip gunzip zcat zgrep bzip2 bunzip2 bzcat xz unxz xzcat zstd unzstd zstdcat",
    // debianutils, hostname
    "which tempfile hostname",
    // util-linux
    "column getopt flock rev setsid taskset hexdump more kill nologin",
    // procps
    "ps pgrep pkill free uptime",
    // ncurses
    "clear tput reset",
    // libc-bin
    "getconf locale iconv ldd",
    // others that small programs in shell lean on
    "bc dc ed xxd jq",
];

/// Where tools are looked for; the first of each name counts.
const DIRECTORIES: [&str; 4] = ["/usr/bin", "/bin", "/usr/sbin", "/sbin"];

/// Libraries that libc opens by name when a program uses threads or looks up names.
const OPENED: [&str; 8] = [
    "libgcc_s.so.1",
    "libnss_files.so.2",
    "libnss_dns.so.2",
    "libresolv.so.2",
    // Parts of libc that programs built against older ones name, now empty.
    "libpthread.so.0",
    "libdl.so.2",
    "librt.so.1",
    "libutil.so.1",
];

/// Terminals that a program's output may meet.
const TERMINALS: [&str; 7] = [
    "dumb",
    "ansi",
    "linux",
    "vt100",
    "xterm",
    "xterm-256color",
    "screen-256color",
];

/// Files of `/etc` that are ours: one user for the job, and names that need no server.
pub(in super::super) const ETC: [(&str, &str); 4] = [
    (
        "/etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\n\
         piston:x:1000:1000:Piston job:/piston/job:/bin/sh\n\
         nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
    ),
    (
        "/etc/group",
        "root:x:0:\npiston:x:1000:\nnogroup:x:65534:\n",
    ),
    (
        "/etc/nsswitch.conf",
        "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n",
    ),
    ("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
];

/// Plans the package.
pub(in super::super) fn draft(host: &Host) -> Result<Draft, MakeError> {
    let mut collector = Collector::new(Vec::new())?;
    programs(&mut collector)?;
    for name in OPENED {
        collector.opened_library(name);
    }
    data(&mut collector);
    certificates(&mut collector);
    etc(&mut collector);
    let description = Description {
        environment: "export PATH=/usr/local/bin:/usr/bin:/bin\nexport LANG=C.UTF-8\n".to_owned(),
        ..Description::new(NAME, host.base_version()?, host)
    };
    Ok(Draft {
        description,
        plan: collector.plan,
        notes: collector.notes,
    })
}

/// What the package of this host holds: language packages leave that out.
pub(in super::super) fn plan(host: &Host) -> Result<Plan, MakeError> {
    Ok(draft(host)?.plan)
}

fn programs(collector: &mut Collector) -> Result<(), MakeError> {
    // On most hosts these are links (merged /usr): scripts name both ends.
    for top in ["/bin", "/sbin", "/lib", "/lib64"] {
        collector.take_if_there(Path::new(top));
    }
    let [needed, optional] = SHELLS.map(Path::new);
    collector.program(needed, None)?;
    collector.program_if_there(optional);
    for name in TOOLS.iter().flat_map(|tools| tools.split_whitespace()) {
        let places = DIRECTORIES.iter().map(|dir| Path::new(dir).join(name));
        if let Some(tool) = places.into_iter().find(|tool| tool.exists()) {
            collector.program_if_there(&tool);
        }
    }
    // stdbuf preloads it.
    collector.take_if_there(Path::new("/usr/libexec/coreutils/libstdbuf.so"));
    Ok(())
}

fn data(collector: &mut Collector) {
    for directory in ["/usr/lib/locale/C.utf8", "/usr/lib/locale/C.UTF-8"] {
        optional_tree(collector, Path::new(directory), &|_| true);
    }
    // `posix` and `right` repeat all zones; the others lead to the host's own time zone.
    let zone = |path: &Path| {
        !["posix", "right", "localtime", "posixrules"]
            .iter()
            .any(|skip| path.starts_with(skip))
    };
    optional_tree(collector, Path::new("/usr/share/zoneinfo"), &zone);
    for terminal in TERMINALS {
        for top in ["/lib/terminfo", "/usr/share/terminfo"] {
            let file = Path::new(top).join(&terminal[..1]).join(terminal);
            collector.take_if_there(&file);
        }
    }
    collector.take_if_there(Path::new("/usr/lib/os-release"));
}

/// The certificates of authorities; a private key that somebody put beside them stays out.
fn certificates(collector: &mut Collector) {
    let top = Path::new("/etc/ssl/certs");
    let public = |path: &Path| {
        let file = top.join(path);
        file.is_dir()
            || fs::read(&file).is_ok_and(|text| {
                let holds = |word: &[u8]| text.windows(word.len()).any(|part| part == word);
                holds(b"BEGIN CERTIFICATE") && !holds(b"PRIVATE KEY")
            })
    };
    optional_tree(collector, top, &public);
    // Where OpenSSL is told to look by default.
    collector.take_if_there(Path::new("/usr/lib/ssl/cert.pem"));
    collector.take_if_there(Path::new("/usr/lib/ssl/certs"));
}

fn etc(collector: &mut Collector) {
    collector.take_if_there(Path::new("/etc/ld.so.conf"));
    let configuration = |path: &Path| path.extension().is_some_and(|end| end == "conf");
    optional_tree(collector, Path::new("/etc/ld.so.conf.d"), &configuration);
    for (path, text) in ETC {
        collector.plan.bytes(path, text);
    }
    if collector.plan.contains("/usr/lib/os-release") {
        collector
            .plan
            .symlink("/etc/os-release", "../usr/lib/os-release");
    }
}

fn optional_tree(collector: &mut Collector, directory: &Path, keep: &dyn Fn(&Path) -> bool) {
    if directory.is_dir()
        && let Err(error) = collector.tree(directory, keep)
    {
        collector.notes.push(error.to_string());
    }
}
