//! `piston package`: what is installed, and how it gets there and away.

use std::path::Path;

use anyhow::Result;

use crate::api::{
    AvailablePackage, Code, InstallReply, InstallState, InstalledPackage, UninstallReply,
    VerifyReply,
};
use crate::ids::{Language, PackageRef};
use crate::{Client, Error};

use super::exit::Exit;
use super::failure::Failure;
use super::flags::{Install, Package, Remove};
use super::make;
use super::plan::PackageWord;
use super::progress;
use super::render::{Screen, Table, Tone, clean};
use super::runtime;
use super::suggest::nearest;

/// Performs one command of the group.
pub(super) async fn perform(client: &Client, command: Package, screen: &Screen) -> Result<Exit> {
    match command {
        Package::List => list(client, screen).await?,
        Package::Install(flags) => install(client, flags, screen).await?,
        Package::Remove(flags) => remove(client, &flags, screen).await?,
        Package::Verify { packages } => return verify(client, &packages, screen).await,
        Package::Info { package } => info(client, &package, screen).await?,
        Package::Upload { file } => {
            screen.progress(format!("sending {} ...", file.display()));
            upload(client, &file, screen).await?;
        }
        Package::FromHost(flags) => make::from_host(client, flags, screen).await?,
        Package::FromDebian(flags) => make::from_debian(client, flags, screen).await?,
        Package::FromOci(flags) => make::from_oci(client, flags, screen).await?,
        Package::FromPistonV2(flags) => make::from_piston_v2(client, flags, screen).await?,
        Package::Build(flags) => make::build(client, flags, screen).await?,
        Package::Extend(flags) => make::extend(client, flags, screen).await?,
        Package::Gc => {
            let reply = client.gc().await?;
            screen.show(&reply, |reply| removed_text(reply, "nothing is left over"))?;
        }
    }
    Ok(Exit::Done)
}

async fn upload(client: &Client, file: &Path, screen: &Screen) -> Result<()> {
    let uploaded = async {
        let events = client.upload_events(file).await?;
        progress::follow(events, screen).await
    };
    let reply = uploaded.await.map_err(|error| refused(error, file))?;
    screen.show(&reply, install_text)
}

/// The daemon knows what is wrong with a file, but not what it is called.
fn refused(error: anyhow::Error, file: &Path) -> anyhow::Error {
    let error = match error.downcast::<Error>() {
        Ok(error) if error.problem().is_some() => error,
        Ok(error) => return error.into(),
        Err(error) => return error,
    };
    let failure = Failure::new(format!("can't install {}", file.display()));
    let failure = match (error.code(), error.remedy()) {
        (Some(Code::InvalidPackage), _) => failure.next(
            "a package file is what `piston package build DIR -o FILE` writes, or a repository has",
        ),
        (_, Some(remedy)) => failure.next(remedy),
        (_, None) => failure,
    };
    failure.because(error).into()
}

async fn list(client: &Client, screen: &Screen) -> Result<()> {
    let packages = client.packages().await?;
    screen.show(&packages, |packages| {
        if packages.is_empty() {
            return "no packages are installed\n\
                    make one of what this machine has: \
                    `piston package from-host python --install`\n\
                    or of what Debian has packaged: `piston package from-debian lua`\n\
                    or see what repositories offer: `piston repo packages --sync`"
                .to_owned();
        }
        let mut table = Table::new(["PACKAGE", "VERSION", "RUNS", "SIZE", "FROM"]);
        for package in packages {
            table.row(&[
                package.language.to_string(),
                package.version.to_string(),
                joined(&package.runtimes, "-"),
                package.image_bytes.to_string(),
                origin(package),
            ]);
        }
        screen.table(&table)
    })
}

fn origin(package: &InstalledPackage) -> String {
    let from = package.repository.as_deref().unwrap_or("made here");
    if package.requested {
        from.to_owned()
    } else {
        format!("{from}, as a dependency")
    }
}

/// Things with commas, or what stands for none of them.
pub(super) fn joined<T: ToString>(things: &[T], none: &str) -> String {
    if things.is_empty() {
        return none.to_owned();
    }
    things
        .iter()
        .map(T::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

async fn install(client: &Client, flags: Install, screen: &Screen) -> Result<()> {
    let PackageWord { name, range } = flags.package;
    let range = match (range, flags.range) {
        (Some(_), Some(_)) => {
            return Err(Failure::new("two versions are given")
                .next("write either NAME@RANGE or NAME RANGE")
                .into());
        }
        (range, other) => range.or(other).unwrap_or_else(|| "*".to_owned()),
    };
    let installed = bring(client, &flags.repo, &name, &range, screen).await;
    let reply = match installed {
        Err(error) => return Err(with_suggestion(client, error, &name).await),
        Ok(reply) => reply,
    };
    screen.show(&reply, install_text)
}

/// Installs a package, and shows how far that is.
pub(super) async fn bring(
    client: &Client,
    repository: &str,
    name: &Language,
    range: &str,
    screen: &Screen,
) -> Result<InstallReply> {
    screen.progress(format!("installing {name} ..."));
    let installation = async {
        let events = client.install_events(repository, name, range).await?;
        progress::follow(events, screen).await
    };
    let goes_on = || {
        format!(
            "the daemon goes on installing {name}: `piston package list` shows it when it is there"
        )
    };
    progress::watch(installation, goes_on).await
}

/// The failure to install what no repository has, with what was probably meant.
async fn with_suggestion(client: &Client, error: anyhow::Error, name: &Language) -> anyhow::Error {
    let error = match error.downcast::<Error>() {
        Ok(error) if error.code() == Some(Code::PackageNotAvailable) => error,
        Ok(error) => return error.into(),
        Err(error) => return error,
    };
    let offers = runtime::offers(client).await.unwrap_or_default();
    let known = |offer: &AvailablePackage| offer.language == *name;
    if offers.iter().any(known) {
        // The version is what is wrong.
        let next = format!("see the versions with `piston package info {name}`");
        return Failure::new(&error).because(error).next(next).into();
    }
    let named = |name: &str| {
        let mut offers = offers.iter();
        offers.find(|offer| runtime::offer_names(offer).any(|known| known == name))
    };
    let names = offers.iter().flat_map(runtime::offer_names);
    // A language that another package brings, or a word that is nearly one.
    let meant = named(name.as_str()).or_else(|| named(nearest(name.as_str(), names)?));
    let Some(meant) = meant else {
        return error.into();
    };
    Failure::new(&error)
        .because(error)
        .next(format!(
            "did you mean `piston package install {}`?",
            meant.language
        ))
        .next("see what there is with `piston repo packages`")
        .into()
}

pub(super) fn install_text(reply: &InstallReply) -> String {
    let with = match reply.dependencies.as_slice() {
        [] => String::new(),
        dependencies => format!(", with {}", joined(dependencies, "")),
    };
    match reply.state {
        InstallState::Installed => format!("installed {}{with}", reply.package),
        InstallState::AlreadyInstalled => format!("{} is installed already", reply.package),
    }
}

async fn remove(client: &Client, flags: &Remove, screen: &Screen) -> Result<()> {
    let package = named(client, &flags.package).await?;
    let reply = if flags.cascade {
        client.uninstall_cascade(&package).await?
    } else {
        client.uninstall(&package).await?
    };
    screen.show(&reply, |reply| removed_text(reply, "nothing was removed"))
}

/// The installed package that a word means.
pub(super) async fn named(client: &Client, word: &PackageWord) -> Result<PackageRef> {
    match word.exact() {
        Some(package) => Ok(package),
        None => only_version(client, word).await,
    }
}

/// The installed version of a package that was named without one.
async fn only_version(client: &Client, word: &PackageWord) -> Result<PackageRef> {
    if let Some(range) = &word.range {
        return Err(Failure::new(format!("`{range}` is not an exact version"))
            .next(format!(
                "see the versions with `piston package info {}`",
                word.name
            ))
            .into());
    }
    let installed = match client.package_versions(&word.name).await {
        Err(error) if error.code() == Some(Code::PackageNotFound) => Vec::new(),
        installed => installed?,
    };
    match installed.as_slice() {
        [] => Err(not_installed(client, &word.name).await?.into()),
        [package] => Ok(PackageRef::new(
            package.language.clone(),
            package.version.clone(),
        )),
        several => {
            let versions: Vec<_> = several.iter().map(|package| &package.version).collect();
            Err(
                Failure::new(format!("several versions of {} are installed", word.name))
                    .next(format!(
                        "name one with {}@VERSION: {}",
                        word.name,
                        joined(&versions, "")
                    ))
                    .into(),
            )
        }
    }
}

/// The failure of a package that is not installed, with the one that was probably meant.
async fn not_installed(client: &Client, name: &Language) -> Result<Failure> {
    let installed = client.packages().await?;
    let names = installed.iter().map(|package| package.language.as_str());
    let failure = Failure::new(format!("no package {name} is installed"));
    let failure = match nearest(name.as_str(), names) {
        Some(meant) => failure.next(format!("did you mean `{meant}`?")),
        None => failure,
    };
    Ok(failure.next("see what is installed with `piston package list`"))
}

/// Checks packages one after the other; says of each what came of it as soon as it is known.
async fn verify(client: &Client, words: &[PackageWord], screen: &Screen) -> Result<Exit> {
    let mut packages = Vec::new();
    for word in words {
        packages.push(named(client, word).await?);
    }
    if words.is_empty() {
        let all = client.packages().await?.into_iter();
        packages.extend(all.map(|package| PackageRef::new(package.language, package.version)));
    }
    let mut replies = Vec::new();
    for package in packages {
        let reply = client.verify(&package).await?;
        if !screen.wants_json() {
            screen.show(&reply, |reply| verified_text(reply, screen))?;
        }
        replies.push(reply);
    }
    if screen.wants_json() {
        screen.show(&replies, |_| String::new())?;
    }
    let all_well = replies.iter().all(|reply| reply.problems.is_empty());
    Ok(if all_well {
        Exit::Done
    } else {
        Exit::Program(1)
    })
}

fn verified_text(reply: &VerifyReply, screen: &Screen) -> String {
    let verdict = if reply.problems.is_empty() {
        screen.tone(Tone::Good, "ok")
    } else {
        screen.tone(Tone::Bad, "damaged")
    };
    let mut lines = vec![format!(
        "{verdict} {} ({})",
        reply.package, reply.image_bytes
    )];
    lines.extend(
        reply
            .notes
            .iter()
            .map(|note| format!("  note: {}", clean(note))),
    );
    lines.extend(
        reply
            .problems
            .iter()
            .map(|problem| format!("  {}", clean(problem))),
    );
    if !reply.problems.is_empty() {
        let advice = format!(
            "  `piston package remove {0}` and install it again",
            reply.package.language
        );
        lines.push(advice);
    }
    lines.join("\n")
}

fn removed_text(reply: &UninstallReply, nothing: &str) -> String {
    match reply.removed.as_slice() {
        [] => nothing.to_owned(),
        removed => format!("removed {}", joined(removed, "")),
    }
}

async fn info(client: &Client, word: &PackageWord, screen: &Screen) -> Result<()> {
    let installed = match word.exact() {
        Some(package) => client.package(&package).await.map(|package| vec![package]),
        None => client.package_versions(&word.name).await,
    };
    match installed {
        Ok(packages) if !packages.is_empty() => screen.show(&packages, |packages| {
            let texts: Vec<String> = packages.iter().map(|p| info_text(p, screen)).collect();
            texts.join("\n")
        }),
        Err(error) if error.code() != Some(Code::PackageNotFound) => Err(error.into()),
        _ => offered(client, word, screen).await,
    }
}

fn info_text(package: &InstalledPackage, screen: &Screen) -> String {
    let mut table = Table::default();
    let name = format!("{} {}", package.language, package.version);
    let mut line = |label: &str, value: String| table.row(&[label.to_owned(), value]);
    line(
        "runs",
        joined(&package.runtimes, "nothing: other packages build on it"),
    );
    line(
        "image",
        format!("{}, sha256 {}", package.image_bytes, package.image),
    );
    line("from", origin(package));
    if let Some(key) = &package.signed_by {
        line("signed by", key.clone());
    }
    if let Some(author) = &package.author {
        line("author", author.clone());
    }
    if let Some(platform) = &package.build_platform {
        line("built for", platform.clone());
    }
    if !package.libraries.is_empty() {
        line("libraries", joined(&package.libraries, ""));
    }
    line("mounted at", package.mount.clone());
    line("view", package.view.clone());
    line("layers", joined(&package.layers, "-"));
    line("needed by", joined(&package.dependents, "no other package"));
    for note in &package.notes {
        line("note", note.clone());
    }
    format!(
        "{}\n{}",
        screen.tone(Tone::Head, &name),
        screen.table(&table)
    )
}

/// What repositories have of a package that is not installed.
async fn offered(client: &Client, word: &PackageWord, screen: &Screen) -> Result<()> {
    let packages = match client.available_versions("all", &word.name).await {
        Ok(packages) if !packages.is_empty() => packages,
        Err(error) if !is_absence(&error) => return Err(error.into()),
        _ => {
            let failure = Failure::new(format!("no package {} is installed or offered", word.name));
            let offers = runtime::offers(client).await.unwrap_or_default();
            let names = offers.iter().flat_map(runtime::offer_names);
            let failure = match nearest(word.name.as_str(), names) {
                Some(meant) => failure.next(format!("did you mean `{meant}`?")),
                None => failure,
            };
            return Err(failure
                .next("see what there is with `piston package list`, `piston repo packages --sync`")
                .into());
        }
    };
    screen.show(&packages, |packages| {
        let install = format!("not installed; `piston package install {}`", word.name);
        format!("{}{install}", available_table(packages, screen))
    })
}

fn is_absence(error: &Error) -> bool {
    matches!(
        error.code(),
        Some(Code::PackageNotAvailable | Code::PackageNotFound | Code::RepositoryNotFound)
    )
}

/// What repositories list.
pub(super) fn available_table(packages: &[AvailablePackage], screen: &Screen) -> String {
    let mut table = Table::new([
        "PACKAGE",
        "VERSION",
        "REPOSITORY",
        "SIZE",
        "NEEDS",
        "INSTALLED",
    ]);
    for package in packages {
        let needs: Vec<String> = package
            .dependencies
            .iter()
            .map(|(name, range)| format!("{name} {range}"))
            .collect();
        let size = if package.size.0 == 0 {
            "-".to_owned()
        } else {
            package.size.to_string()
        };
        table.row(&[
            package.language.to_string(),
            package.version.to_string(),
            package.repository.clone(),
            size,
            joined(&needs, "-"),
            if package.installed { "yes" } else { "-" }.to_owned(),
        ]);
    }
    screen.table(&table)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(word: &str) -> PackageRef {
        word.parse::<PackageWord>()
            .ok()
            .and_then(|word| word.exact())
            .expect("a package")
    }

    #[test]
    fn an_installation_says_what_came_along() {
        let reply = |state, dependencies: &[&str]| InstallReply {
            package: package("python-3.11.2"),
            state,
            dependencies: dependencies.iter().map(|word| package(word)).collect(),
        };
        let new = reply(InstallState::Installed, &["base-12.0.0", "ssl-3.0.0"]);
        assert_eq!(
            install_text(&new),
            "installed python-3.11.2, with base-12.0.0, ssl-3.0.0"
        );
        let old = reply(InstallState::AlreadyInstalled, &[]);
        assert_eq!(install_text(&old), "python-3.11.2 is installed already");
    }

    #[test]
    fn a_check_says_what_is_wrong_and_what_to_do() {
        let mut reply = VerifyReply {
            package: package("lua-5.4.4"),
            image: "ab".repeat(32).parse().expect("a digest"),
            image_bytes: crate::units::Bytes(4096),
            problems: Vec::new(),
            notes: Vec::new(),
        };
        let text = |reply: &VerifyReply| verified_text(reply, &Screen::plain());
        assert_eq!(text(&reply), "ok lua-5.4.4 (4 KiB)");
        reply.problems.push("its image is gone".to_owned());
        insta::assert_snapshot!(text(&reply), @"
        damaged lua-5.4.4 (4 KiB)
          its image is gone
          `piston package remove lua` and install it again
        ");
    }

    #[test]
    fn a_removal_says_what_went() {
        let reply = UninstallReply {
            removed: vec![package("b-1.0.0"), package("a-1.0.0")],
        };
        assert_eq!(removed_text(&reply, ""), "removed b-1.0.0, a-1.0.0");
        let none = UninstallReply {
            removed: Vec::new(),
        };
        assert_eq!(
            removed_text(&none, "nothing is left over"),
            "nothing is left over"
        );
    }
}
