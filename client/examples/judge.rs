//! Judges a program: `cargo run --example judge PACKAGE FILE INPUT=OUTPUT...`.
//!
//! Shows a batch: the program is compiled once, and runs in a sandbox of its own for each case.

#![expect(clippy::print_stdout, reason = "an example shows what it got")]

use std::error::Error;

use piston_client::api::{BatchCase, BatchRequest, Compare, InputFile};
use piston_client::{Client, Host};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let (Some(package), Some(file)) = (words.next(), words.next()) else {
        return Err("name a package, a file, and cases".into());
    };
    let case = |word: String| {
        let (input, output) = word.split_once('=')?;
        Some(BatchCase {
            stdin: Some(input.into()),
            expected_stdout: Some(output.into()),
            compare: Compare::Trim,
            ..BatchCase::default()
        })
    };
    let request = BatchRequest {
        files: vec![InputFile::unnamed(&std::fs::read(file)?)],
        cases: words
            .map(case)
            .collect::<Option<_>>()
            .ok_or("a case is INPUT=OUTPUT")?,
        ..BatchRequest::default()
    };

    let client = Client::connect(Host::from_environment()?).await?;
    let batch = client.batch(&package.parse()?, "*", &request).await?;
    for case in &batch.cases {
        if let (Some(verdict), Some(run)) = (case.verdict, &case.run) {
            println!("{} {verdict} {:?}", case.index, run.stdout);
        }
    }
    println!("{}", batch.verdict);
    Ok(())
}
