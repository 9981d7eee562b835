//! How far an installation is: bars on a terminal, a line for each phase elsewhere, nothing for
//! programs.
//!
//! The only place that knows indicatif, which writes to standard error.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};

use crate::api::{InstallEvent, InstallPhase, InstallReply, PackageProgress, PlannedPackage};
use crate::ids::PackageRef;
use crate::{Error, Events};

use super::exit::{Exit, INTERRUPT};
use super::failure::Failure;
use super::packages::joined;
use super::render::{Screen, Watcher, clean};

/// How often a bar moves that counts nothing.
const TICK: Duration = Duration::from_millis(120);
/// Columns from which on a line has room for a bar.
const WIDE: usize = 72;

/// The lines of bars.
struct Forms {
    /// A phase whose bytes are counted.
    counted: &'static str,
    /// One whose bytes are not, or not yet.
    uncounted: &'static str,
    /// A package that is done with.
    done: &'static str,
}

const ROOMY: Forms = Forms {
    counted: "{prefix} {msg:11} {bytes:>10} of {total_bytes:10} {eta:>4} [{wide_bar}]",
    uncounted: "{prefix} {msg:11} {spinner}",
    done: "{prefix} {msg}",
};

/// What does not fit is cut off at the end: there stands the name.
const NARROW: Forms = Forms {
    counted: "{msg:11} {percent:>3}% {prefix}",
    uncounted: "{msg:11}  {spinner}   {prefix}",
    done: "{msg:11}      {prefix}",
};

/// Waits for work of the daemon until it is done or Ctrl-C is typed; `after` says what becomes of
/// it then.
pub(super) async fn watch<T>(
    work: impl Future<Output = Result<T>>,
    after: impl FnOnce() -> String,
) -> Result<T> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        done = work => done,
        _ = interrupt.recv() => Err(Failure::new("interrupted")
            .next(after())
            .ends(Exit::Signal(INTERRUPT))
            .into()),
    }
}

/// Shows the events of an installation up to its result.
pub(super) async fn follow(
    mut events: Events<InstallEvent>,
    screen: &Screen,
) -> Result<InstallReply> {
    let mut shown = Shown::on(screen);
    while let Some(event) = events.next().await {
        match event? {
            InstallEvent::Plan { packages } => shown.plan(&packages),
            InstallEvent::Progress(progress) => shown.progress(&progress),
            InstallEvent::Result { result } => return Ok(result),
            InstallEvent::Error { problem } => return Err(Error::Fault(problem).into()),
        }
    }
    Err(Failure::new("the daemon did not say what came of it").into())
}

/// What is shown so far; bars go with it.
enum Shown<'a> {
    Nothing,
    Lines {
        screen: &'a Screen,
        phases: BTreeMap<PackageRef, InstallPhase>,
    },
    Bars(Bars),
}

impl<'a> Shown<'a> {
    fn on(screen: &'a Screen) -> Self {
        match screen.watcher() {
            Watcher::Program => Self::Nothing,
            Watcher::Log => Self::Lines {
                screen,
                phases: BTreeMap::new(),
            },
            Watcher::Person => Self::Bars(Bars::new(screen.columns_of_errors())),
        }
    }

    fn plan(&mut self, packages: &[PlannedPackage]) {
        match self {
            Self::Nothing => {}
            Self::Lines { screen, .. } => {
                let names: Vec<&PackageRef> = packages.iter().map(|p| &p.package).collect();
                if !names.is_empty() {
                    screen.note(format!("installing {}", joined(&names, "")));
                }
            }
            Self::Bars(bars) => bars.plan(packages),
        }
    }

    fn progress(&mut self, progress: &PackageProgress) {
        match self {
            Self::Nothing => {}
            Self::Lines { screen, phases } => {
                let before = phases.insert(progress.package.clone(), progress.phase);
                if before != Some(progress.phase) {
                    screen.note(line(progress));
                }
            }
            Self::Bars(bars) => bars.progress(progress),
        }
    }
}

fn words(phase: InstallPhase) -> &'static str {
    match phase {
        InstallPhase::Make => "making",
        InstallPhase::Download => "downloading",
        InstallPhase::Unpack => "unpacking",
        InstallPhase::Verify => "checking",
        InstallPhase::Publish => "ready:",
    }
}

fn line(progress: &PackageProgress) -> String {
    let what = words(progress.phase);
    match progress.total {
        Some(total) => format!("{what} {} ({total})", progress.package),
        None => format!("{what} {}", progress.package),
    }
}

/// A bar for each package, taken off the terminal when this is dropped.
struct Bars {
    all: MultiProgress,
    of: BTreeMap<PackageRef, ProgressBar>,
    forms: &'static Forms,
    width: usize,
}

impl Bars {
    fn new(columns: Option<usize>) -> Self {
        let narrow = columns.is_some_and(|columns| columns < WIDE);
        Self {
            all: MultiProgress::with_draw_target(ProgressDrawTarget::stderr()),
            of: BTreeMap::new(),
            forms: if narrow { &NARROW } else { &ROOMY },
            width: 0,
        }
    }

    fn plan(&mut self, packages: &[PlannedPackage]) {
        let names = packages.iter().map(|planned| planned.package.to_string());
        self.width = names.map(|name| name.len()).max().unwrap_or(0);
        for planned in packages {
            self.bar(&planned.package).set_message("waiting");
        }
    }

    /// The bar of a package, made when there is none yet.
    fn bar(&mut self, package: &PackageRef) -> &ProgressBar {
        let (all, forms, width) = (&self.all, self.forms, self.width);
        self.of.entry(package.clone()).or_insert_with(|| {
            let bar = all.add(ProgressBar::no_length());
            bar.set_style(style(forms.uncounted));
            bar.set_prefix(format!("{:width$}", clean(package)));
            bar.enable_steady_tick(TICK);
            bar
        })
    }

    fn progress(&mut self, progress: &PackageProgress) {
        let forms = self.forms;
        let bar = self.bar(&progress.package);
        match (progress.phase, progress.total) {
            (InstallPhase::Publish, _) => {
                bar.disable_steady_tick();
                bar.set_style(style(forms.done));
                bar.set_message("ready");
            }
            (phase, Some(total)) => {
                bar.set_style(style(forms.counted));
                bar.set_length(total.0);
                bar.set_position(progress.bytes.0);
                bar.set_message(words(phase));
            }
            (phase, None) => {
                bar.set_style(style(forms.uncounted));
                bar.set_message(words(phase));
            }
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        // A terminal that is gone needs no clearing.
        drop(self.all.clear());
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .expect("the templates above are well-formed")
        .progress_chars("=> ")
        // Terminals without UTF-8 show these as well.
        .tick_chars("-\\|/ ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bar_has_a_form() {
        for forms in [ROOMY, NARROW] {
            for template in [forms.counted, forms.uncounted, forms.done] {
                drop(style(template));
            }
        }
    }

    #[test]
    fn a_line_says_what_is_done_with_which_package() {
        let progress = |phase, total: Option<u64>| PackageProgress {
            package: PackageRef::new(
                "lua".parse().expect("a name"),
                "5.4.4".parse().expect("a version"),
            ),
            phase,
            bytes: crate::units::Bytes(0),
            total: total.map(crate::units::Bytes),
        };
        for (phase, total, expected) in [
            (
                InstallPhase::Download,
                Some(3 << 20),
                "downloading lua-5.4.4 (3 MiB)",
            ),
            (InstallPhase::Download, None, "downloading lua-5.4.4"),
            (InstallPhase::Verify, None, "checking lua-5.4.4"),
        ] {
            assert_eq!(line(&progress(phase, total)), expected);
        }
    }
}
