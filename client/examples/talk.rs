//! Talks with a program while it runs: `cargo run --example talk [PACKAGE FILE]`, by default with a
//! line of bash that answers what it is told.
//!
//! Shows an interactive job: what is said goes by the keyboard, what is heard comes as events.

#![expect(clippy::print_stdout, reason = "an example shows what it got")]

use std::error::Error;

use piston_client::api::{Event, ExecuteRequest, InputFile};
use piston_client::{Client, Host};

const PROGRAM: &str = "while read -r name; do echo \"Hello, $name\"; done; echo over";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let package = words.next().unwrap_or_else(|| "bash".to_owned());
    let program = match words.next() {
        Some(path) => std::fs::read(path)?,
        None => PROGRAM.into(),
    };
    let client = Client::connect(Host::from_environment()?).await?;
    let request = ExecuteRequest {
        files: vec![InputFile::unnamed(&program)],
        ..ExecuteRequest::default()
    };
    // With a window's size in the place of `None` the program has a terminal.
    let package = package.parse()?;
    let (mut keyboard, mut events) = client.interact(&package, "*", &request, None).await?;

    for name in ["Ada", "Grace"] {
        keyboard.write(format!("{name}\n").as_bytes()).await?;
        // What it answers comes in one piece or in several.
        let mut heard = String::new();
        while !heard.contains('\n') {
            match events.next().await.ok_or("it ended early")?? {
                Event::Stdout { data, .. } => heard.push_str(&data),
                Event::Result { .. } => return Err("it ended early".into()),
                _ => {}
            }
        }
        print!("{heard}");
    }
    keyboard.end().await?;
    while let Some(event) = events.next().await {
        match event? {
            Event::Stdout { data, .. } => print!("{data}"),
            Event::Result { result } => {
                println!("used {}", result.run.ok_or("no run")?.memory_bytes);
            }
            _ => {}
        }
    }
    Ok(())
}
