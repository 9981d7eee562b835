//! Installs a language and runs a program in it, and tells both as they happen:
//! `cargo run --example follow PACKAGE FILE`.
//!
//! Shows streamed events: of an installation, which goes on when nobody listens, and of a job, which
//! ends then.

#![expect(clippy::print_stdout, reason = "an example shows what it got")]

use std::error::Error;

use piston_client::api::{Event, ExecuteRequest, InputFile, InstallEvent};
use piston_client::ids::Language;
use piston_client::{Client, Host};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let (Some(package), Some(file)) = (words.next(), words.next()) else {
        return Err("name a package and a file".into());
    };
    let package: Language = package.parse()?;
    let client = Client::connect(Host::from_environment()?).await?;

    let mut installation = client.install_events("all", &package, "*").await?;
    while let Some(event) = installation.next().await {
        match event? {
            InstallEvent::Progress(step) => println!("{} {:?}", step.package, step.phase),
            InstallEvent::Result { result } => println!("{} is there", result.package),
            InstallEvent::Plan { .. } | InstallEvent::Error { .. } => {}
        }
    }

    let request = ExecuteRequest {
        files: vec![InputFile::new("main", &std::fs::read(file)?)],
        ..ExecuteRequest::default()
    };
    let mut job = client.execute_events(&package, "*", &request).await?;
    while let Some(event) = job.next().await {
        match event? {
            Event::Stdout { data, .. } => print!("{data}"),
            Event::Result { result } => {
                println!("ended with {:?}", result.run.and_then(|run| run.code));
            }
            _ => {}
        }
    }
    Ok(())
}
