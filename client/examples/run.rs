//! Runs a line of Python, or any file: `cargo run --example run [LANGUAGE FILE]`.
//!
//! Shows the client's whole way: find the daemon, ask what it can run, run, read the result.

#![expect(clippy::print_stdout, reason = "an example shows what it got")]

use std::error::Error;
use std::path::Path;

use piston_client::api::{ExecuteRequest, InputFile};
use piston_client::{Client, Host};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let language = words.next().unwrap_or_else(|| "python".to_owned());
    let file = match words.next() {
        Some(path) => {
            let name = Path::new(&path)
                .file_name()
                .ok_or("not a file")?
                .to_string_lossy();
            InputFile::new(name, &std::fs::read(&path)?)
        }
        None => InputFile::new("main.py", b"import sys; print('Python', sys.version)"),
    };

    let client = Client::connect(Host::from_environment()?).await?;
    let runtimes = client.runtimes().await?;
    let Some(runtime) = runtimes
        .iter()
        .find(|runtime| runtime.language.as_str() == language)
    else {
        return Err(format!("{language} is not installed, see `piston package --help`").into());
    };

    let request = ExecuteRequest {
        language: Some(runtime.language.clone()),
        files: vec![file],
        ..ExecuteRequest::default()
    };
    let version = runtime.version.to_string();
    let job = client.execute(&runtime.package, &version, &request).await?;
    for stage in job.compile.iter().chain(&job.run) {
        println!("{}{}", stage.stdout, stage.stderr);
        println!("exit code {:?} after {}", stage.code, stage.wall_time_ms);
    }
    Ok(())
}
