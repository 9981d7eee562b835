//! The package that all others made of Debian's packages stand on: `debian-base`.
//!
//! libc, a shell, the tools that scripts expect, time zones, certificates, and an `/etc` of our
//! own making. Not Debian's whole base system: nothing that administers one. Has no `run`: it can
//! be depended on, not executed.

use std::collections::BTreeSet;

use piston_client::ids::PackageRef;

use super::super::error::MakeError;
use super::super::host::base::ETC;
use super::super::package::{Description, Draft};
use super::error::DebianError;
use super::universe::{Chosen, Universe};
use super::{Machine, NEVER, Work, assemble};

/// What it holds, with what that depends on.
const PACKAGES: [&str; 31] = [
    "base-files",
    "bash",
    "bc",
    "bsdutils",
    "bzip2",
    "ca-certificates",
    "coreutils",
    "dash",
    "debianutils",
    "diffutils",
    "ed",
    "file",
    "findutils",
    "gawk",
    "grep",
    "gzip",
    "hostname",
    "jq",
    "libc-bin",
    "libc6",
    "libgcc-s1",
    "mawk",
    "ncurses-base",
    "ncurses-bin",
    "netbase",
    "procps",
    "sed",
    "tar",
    "tzdata",
    "util-linux",
    "xz-utils",
];

/// Of what it would depend on, what no job needs: the base of the scripts of installations.
const WITHOUT: [&str; 4] = ["base-passwd", "openssl", "perl-base", "media-types"];

/// Its packages, by the lists.
pub(super) fn chosen<'a>(universe: &Universe<'a>) -> Result<Chosen<'a>, DebianError> {
    let without: BTreeSet<&str> = NEVER.into_iter().chain(WITHOUT).collect();
    universe.closure(&PACKAGES, &without)
}

/// Plans the package.
pub(super) fn draft(machine: &Machine<'_>, work: &Work) -> Result<Draft, MakeError> {
    let own = chosen(&machine.universe)?;
    let (mut plan, notes) = machine.plan(&own, work)?;
    for top in assemble::MERGED {
        let target = format!("usr/{top}");
        if top == "bin" || top == "sbin" || plan.contains(&format!("/{target}")) {
            plan.directory(&format!("/{target}"));
            plan.symlink(&format!("/{top}"), &target);
        }
    }
    for (path, text) in ETC {
        plan.replace_bytes(path, text);
    }
    let package = PackageRef::new(machine.base_name()?, machine.base_version()?);
    let environment = "export PATH=/usr/local/bin:/usr/bin:/bin\nexport LANG=C.UTF-8\n";
    let mut description = Description {
        environment: environment.to_owned(),
        ..Description::of(package)
    };
    machine.fill(&mut description, &own);
    Ok(Draft {
        description,
        plan,
        notes,
    })
}
