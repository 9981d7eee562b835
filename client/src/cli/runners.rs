//! `piston runners`: the operator's settings of languages.

use std::io::Read as _;
use std::path::Path;

use anyhow::Result;

use crate::api::Runners as InForce;
use crate::{Client, SetRunnersMode};

use super::exit::Exit;
use super::failure::Failure;
use super::flags::Runners;
use super::render::Screen;

/// Most that is sent of a file; the daemon's own bound is lower.
const MAX_FILE: u64 = 16 << 20;

/// Performs one command of the group.
pub(super) async fn perform(client: &Client, command: Runners, screen: &Screen) -> Result<Exit> {
    match command {
        Runners::Show => {
            let runners = client.runners().await?;
            if let Some(error) = &runners.error {
                screen.note(format!("the file on disk is not in force: {error}"));
            }
            screen.show(&runners, text)?;
        }
        Runners::Set { file } => {
            let text = read(&file)?;
            let set = client.set_runners_text(&text, SetRunnersMode::Apply);
            screen.show(&set.await?, |runners| in_words(runners, "in force"))?;
        }
        Runners::Check { file } => {
            let text = read(&file)?;
            let checked = client.set_runners_text(&text, SetRunnersMode::Check);
            screen.show(&checked.await?, |runners| in_words(runners, "good"))?;
        }
    }
    Ok(Exit::Done)
}

fn text(runners: &InForce) -> String {
    if runners.text.is_empty() {
        "# no entries: packages' own limits and the general ones hold\n\
         # (`piston runners set --help` shows an entry)"
            .to_owned()
    } else {
        runners.text.clone()
    }
}

fn in_words(runners: &InForce, how: &str) -> String {
    match runners.runners.len() {
        1 => format!("1 entry, {how}"),
        entries => format!("{entries} entries, {how}"),
    }
}

fn read(file: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let done = if file.as_os_str() == "-" {
        std::io::stdin()
            .lock()
            .take(MAX_FILE)
            .read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|opened| opened.take(MAX_FILE).read_to_string(&mut text))
    };
    let failed = |error| Failure::new(format!("can't read {}", file.display())).because(error);
    done.map_err(failed)?;
    Ok(text)
}
