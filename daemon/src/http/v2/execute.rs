//! v2's `POST execute`: validation in the original's order and words, and its reply.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::Request;
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use nix::libc::SIGKILL;
use piston_client::api::{Code, Status};
use piston_client::ids::Language;
use piston_client::units::{Bytes, Millis};
use serde::Serialize;
use serde_json::{Map, Value};

use super::super::app::App;
use super::super::edge::Peer;
use super::super::repeat;
use super::super::reply::{self, Reply};
use crate::error::Error;
use crate::job::limits::{LimitPolicy, Limits, RuntimeLimits, Stages};
use crate::job::outcome::{StageOutcome, Verdict};
use crate::job::request::{CodeFiles, Draft, DraftFile, FileForm};
use crate::job::runners::Rules;
use crate::job::{Outcome, request};
use crate::packages::{Lease, VersionRange};

/// Finds the newest runtime of a language (or alias) in a range.
type Find<'a> = &'a (dyn Fn(&str, &VersionRange) -> Result<(Lease, Language), Error> + Sync);

/// The reply.
#[derive(Debug, Serialize)]
struct Reply2 {
    #[serde(skip_serializing_if = "Option::is_none")]
    compile: Option<Stage>,
    run: Option<Stage>,
    language: String,
    version: String,
}

/// One stage: every field always there, null where there is nothing.
#[derive(Debug, Clone, Serialize)]
struct Stage {
    signal: Option<String>,
    stdout: String,
    stderr: String,
    code: Option<i32>,
    output: String,
    memory: Option<Bytes>,
    message: Option<String>,
    status: Option<Status>,
    cpu_time: Option<Millis>,
    wall_time: Option<Millis>,
}

/// Runs a job and waits for its end.
pub(super) async fn execute(app: &Arc<App>, request: Request) -> Reply {
    let peer = Peer::of(&request);
    let wire = super::body(app, request).await?;
    let request = checked(app, &wire).await?;
    let _permit = peer.job(app)?;
    let runner = &app.engine().await?.runner;
    let mut outcome = runner.run(request.of(peer.requester)).await?;
    let again = outcome.again.take();
    let json = reply::encoded(&Reply2::from(outcome))?;
    Ok(repeat::reply(json, again, None))
}

/// The job that a request asks for.
pub(super) async fn checked(app: &App, wire: &Value) -> Result<request::Request, Error> {
    let wire = Wire::check(wire)?;
    let engine = app.engine().await?;
    let find = |language: &str, range: &VersionRange| {
        engine
            .packages
            .lease_runtime(language, range)
            .map_err(Error::from)
    };
    let draft = wire.draft(&find, &app.runners().rules())?;
    request::Request::try_from(draft).map_err(|e| bad(e.to_string()))
}

pub(super) fn bad(message: impl Into<String>) -> Error {
    Error::new(Code::MalformedRequest, message)
}

/// The fields that are checked before a runtime is looked for.
struct Wire<'a> {
    body: Option<&'a Map<String, Value>>,
    language: &'a str,
    version: &'a str,
    files: Vec<File<'a>>,
}

struct File<'a> {
    name: Option<&'a str>,
    content: &'a str,
    encoding: Option<&'a Value>,
}

impl<'a> Wire<'a> {
    fn check(body: &'a Value) -> Result<Self, Error> {
        // Anything but an object has no fields.
        let body = body.as_object();
        let get = |field: &str| body.and_then(|body| body.get(field));
        let text = |field: &str| match get(field) {
            Some(Value::String(text)) if !text.is_empty() => Ok(&**text),
            _ => Err(bad(format!("{field} is required as a string"))),
        };
        let (language, version) = (text("language")?, text("version")?);
        let Some(Value::Array(files)) = get("files") else {
            return Err(bad("files is required as an array"));
        };
        let file = |(index, file): (usize, &'a Value)| {
            let Some(Value::String(content)) = file.get("content") else {
                return Err(bad(format!(
                    "files[{index}].content is required as a string"
                )));
            };
            let name = file.get("name").and_then(Value::as_str);
            Ok(File {
                name,
                content,
                encoding: file.get("encoding").filter(|e| is_truthy(e)),
            })
        };
        let files = files
            .iter()
            .enumerate()
            .map(file)
            .collect::<Result<_, _>>()?;
        Ok(Self {
            body,
            language,
            version,
            files,
        })
    }

    fn draft(&self, find: Find<'_>, rules: &Rules) -> Result<Draft, Error> {
        let unknown = || {
            bad(format!(
                "{}-{} runtime is unknown",
                self.language, self.version
            ))
        };
        let range: VersionRange = self.version.parse().map_err(|_| unknown())?;
        let (lease, language) =
            find(self.language, &range).map_err(|error| match error.code() {
                Code::PackageNotFound | Code::NotExecutable | Code::InvalidField => unknown(),
                _ => error,
            })?;
        let code = match language.as_str() {
            "file" => CodeFiles::All,
            _ => CodeFiles::Text,
        };
        let is_utf8 = |file: &File<'_>| file.encoding.is_none_or(|encoding| encoding == "utf8");
        if code == CodeFiles::Text && !self.files.iter().any(is_utf8) {
            return Err(bad("files must include at least one utf8 encoded file"));
        }
        let runtime = lease
            .installed
            .runtimes
            .iter()
            .find(|r| r.language == language);
        let runtime = runtime.ok_or_else(|| bad(format!("{language} runtime is unknown")))?;
        let terms = rules.terms(&lease.installed, runtime);
        let limits = self.limits(&terms.limits, &rules.limits)?;
        let files = self
            .files
            .iter()
            .enumerate()
            .map(draft_file)
            .collect::<Result<_, _>>()?;
        Ok(Draft {
            files,
            code,
            args: self.args()?,
            stdin: self.stdin(),
            env: BTreeMap::new(),
            limits,
            outputs: Vec::new(),
            cache: terms.cache,
            grants: terms.grants,
            lease,
            language,
        })
    }

    /// A field that JavaScript's `if` would accept.
    fn given(&self, field: &str) -> Option<&Value> {
        self.body?.get(field).filter(|value| is_truthy(value))
    }

    fn args(&self) -> Result<Vec<String>, Error> {
        let Some(args) = self.given("args") else {
            return Ok(Vec::new());
        };
        let word = |arg: &Value| match arg {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(value) => Some(value.to_string()),
            _ => None,
        };
        let words = args
            .as_array()
            .and_then(|args| args.iter().map(word).collect());
        words.ok_or_else(|| bad("args must be an array of strings"))
    }

    /// The program always sees its input end in a newline.
    fn stdin(&self) -> Vec<u8> {
        let mut stdin = self
            .given("stdin")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        if !stdin.ends_with('\n') {
            stdin.push('\n');
        }
        stdin.into_bytes()
    }

    fn limits(
        &self,
        configured: &RuntimeLimits,
        policy: &LimitPolicy,
    ) -> Result<Stages<Limits>, Error> {
        let mut limits = configured.stages;
        let set = &configured.set;
        for (stage, set) in [
            (&mut limits.compile, &set.compile),
            (&mut limits.run, &set.run),
        ] {
            let output = set.output_bytes.unwrap_or(policy.v2.output);
            stage.output = output.min(policy.max.output);
        }
        let ceiling = |set: Option<Bytes>, general: Option<Bytes>| set.or(general);
        let ceilings = Stages {
            compile: ceiling(set.compile.memory_bytes, policy.v2.memory.compile),
            run: ceiling(set.run.memory_bytes, policy.v2.memory.run),
        };
        let memory = |stage, own: Bytes, ceiling: Option<Bytes>| {
            let most = ceiling.map(|_| own.0);
            let asked = self.limit(&format!("{stage}_memory_limit"), most)?;
            Ok::<_, Error>(asked.map_or(own, Bytes).min(policy.max.memory))
        };
        limits.compile.memory = memory("compile", limits.compile.memory, ceilings.compile)?;
        limits.run.memory = memory("run", limits.run.memory, ceilings.run)?;
        let time = |field: &str, own: std::time::Duration| {
            let asked = self.limit(field, Some(Millis::from(own).0))?;
            Ok::<_, Error>(asked.map_or(own, |asked| Millis(asked).into()))
        };
        limits.compile.wall_time = time("compile_timeout", limits.compile.wall_time)?;
        limits.run.wall_time = time("run_timeout", limits.run.wall_time)?;
        limits.compile.cpu_time = time("compile_cpu_time", limits.compile.cpu_time)?;
        limits.run.cpu_time = time("run_cpu_time", limits.run.cpu_time)?;
        Ok(limits)
    }

    /// What a request asks of a limit, when it asks. Without a configured limit any number passes.
    fn limit(&self, field: &str, most: Option<u64>) -> Result<Option<u64>, Error> {
        let Some(asked) = self.given(field) else {
            return Ok(None);
        };
        let Some(number) = asked.as_f64() else {
            return Err(bad(format!("If specified, {field} must be a number")));
        };
        let whole = whole(asked, number);
        if let Some(most) = most {
            if whole.is_some_and(|whole| whole > most) {
                return Err(bad(format!(
                    "{field} cannot exceed the configured limit of {most}"
                )));
            }
            if number < 0.0 {
                return Err(bad(format!("{field} must be non-negative")));
            }
        }
        // Less than one of the smallest unit is still some.
        Ok(whole.map(|whole| whole.max(1)))
    }
}

/// A number as whole units, rounded up; none when it is negative.
fn whole(value: &Value, number: f64) -> Option<u64> {
    if number < 0.0 {
        return None;
    }
    // JSON's whole numbers are exact; others are written out and cut, as there is no checked
    // conversion from floating point.
    value.as_u64().or_else(|| {
        let text = format!("{:.0}", number.ceil());
        Some(text.parse().unwrap_or(u64::MAX))
    })
}

/// What JavaScript's `if (value)` says.
fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Number(number) => number.as_f64().is_some_and(|number| number != 0.0),
        Value::String(text) => !text.is_empty(),
        Value::Bool(true) | Value::Array(_) | Value::Object(_) => true,
    }
}

fn draft_file((index, file): (usize, &File<'_>)) -> Result<DraftFile, Error> {
    // Node decodes with and without padding.
    const BASE64: GeneralPurpose = GeneralPurpose::new(
        &alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let field = |what| bad(format!("files[{index}].content is not {what}"));
    let (bytes, form) = match file.encoding.and_then(Value::as_str) {
        Some("base64") => {
            let compact: String = file.content.split_whitespace().collect();
            (
                BASE64.decode(compact).map_err(|_| field("base64"))?,
                FileForm::Encoded,
            )
        }
        Some("hex") => (
            hex::decode(file.content).map_err(|_| field("hex"))?,
            FileForm::Encoded,
        ),
        _ => (file.content.as_bytes().to_vec(), FileForm::Text),
    };
    Ok(DraftFile {
        name: file.name.map(str::to_owned),
        bytes,
        form,
    })
}

impl From<Outcome> for Reply2 {
    fn from(outcome: Outcome) -> Self {
        let compile = outcome.compile.as_ref().map(Stage::from);
        // When compiling failed the original repeats it as the run.
        let run = outcome
            .run
            .as_ref()
            .map(Stage::from)
            .or_else(|| compile.clone());
        Self {
            compile,
            run,
            language: outcome.language.to_string(),
            version: outcome.version.to_string(),
        }
    }
}

impl From<&StageOutcome> for Stage {
    fn from(stage: &StageOutcome) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let said = match stage.verdict {
            // The released Piston has no word for it: there the kernel kills such a program.
            Some(Verdict::MemoryLimit) => Some(Verdict::Signal(SIGKILL)),
            ref verdict => verdict.clone(),
        };
        Self {
            signal: stage.signal_name(),
            stdout: text(&stage.stdout),
            stderr: text(&stage.stderr),
            code: stage.code,
            output: text(&stage.output),
            memory: Some(stage.memory),
            message: said.as_ref().map(Verdict::message),
            status: said.as_ref().map(Verdict::status),
            cpu_time: Some(stage.cpu_time.into()),
            wall_time: Some(stage.wall_time.into()),
        }
    }
}

#[cfg(test)]
mod tests;
