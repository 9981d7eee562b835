//! v3's wire form of a batch, decoded and checked.

use std::collections::BTreeMap;

use piston_client::api;

use super::{Request, RequestError, check, decode, from_v3};
use crate::job::batch::{AfterFailure, Batch, Case, Expected};
use crate::job::runners::Rules;
use crate::packages::Lease;

/// Cases of one batch at most.
const MAX_CASES: usize = 1000;
/// Of which so many run at once at most.
const MAX_PARALLEL: u32 = 64;

/// A v3 batch decoded; its package is held, its limits are lowered.
pub fn batch_v3(
    wire: api::BatchRequest,
    lease: Lease,
    rules: &Rules,
) -> Result<Batch, RequestError> {
    let api::BatchRequest {
        language,
        files,
        code,
        env,
        limits,
        cache,
        encoding,
        cases,
        stop_on_failure,
        parallel,
    } = wire;
    if cases.is_empty() || cases.len() > MAX_CASES {
        let message = format!("has {} entries, from 1 to {MAX_CASES} are run", cases.len());
        return Err(RequestError::field("cases", message));
    }
    let parallel = parallel.unwrap_or(1);
    if !(1..=MAX_PARALLEL).contains(&parallel) {
        let message = format!("is {parallel}, from 1 to {MAX_PARALLEL} is possible");
        return Err(RequestError::field("parallel", message));
    }
    let program = api::ExecuteRequest {
        language,
        files,
        code,
        env,
        limits,
        cache: cache.map(|level| level.min(api::CacheLevel::Binary)),
        encoding,
        ..api::ExecuteRequest::default()
    };
    let mut program = from_v3(program, lease, rules)?;
    program.cache = program.cache.min(api::CacheLevel::Binary);
    let cases = cases.into_iter().enumerate();
    let cases = cases.map(|(index, wire)| case(&program, index, wire));
    Ok(Batch {
        cases: cases.collect::<Result<_, _>>()?,
        after_failure: if stop_on_failure {
            AfterFailure::Stop
        } else {
            AfterFailure::GoOn
        },
        parallel: usize::try_from(parallel).unwrap_or(1),
        program,
    })
}

fn case(program: &Request, index: usize, wire: api::BatchCase) -> Result<Case, RequestError> {
    let field = |name: &str| format!("cases[{index}].{name}");
    let mut env: BTreeMap<_, _> = program.env.clone();
    env.extend(wire.env);
    check::strings(&wire.args, &env).map_err(|error| within(index, error))?;
    let mut limits = program.limits;
    limits.run = limits.run.lowered(&field("limits"), &wire.limits)?;
    let stdin = wire.stdin.map(|stdin| text(&field("stdin"), stdin));
    let stdout = wire
        .expected_stdout
        .map(|stdout| text(&field("expected_stdout"), stdout))
        .transpose()?;
    Ok(Case {
        request: program.again(
            wire.args,
            env,
            stdin.transpose()?.unwrap_or_default(),
            limits,
        ),
        expected: stdout.map(|stdout| Expected {
            stdout,
            compare: wire.compare,
        }),
    })
}

/// The error of a field, as that of a case.
fn within(index: usize, error: RequestError) -> RequestError {
    match error {
        RequestError::Field { field, message } => RequestError::Field {
            field: format!("cases[{index}].{field}"),
            message,
        },
        other => other,
    }
}

fn text(field: &str, text: api::Stdin) -> Result<Vec<u8>, RequestError> {
    match text {
        api::Stdin::Text(text) => Ok(text.into_bytes()),
        api::Stdin::Encoded { content, encoding } => {
            decode(&format!("{field}.content"), content, encoding)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{lease, rules};
    use super::*;
    use serde_json::{Value, json};

    fn batch(body: Value) -> Result<Batch, RequestError> {
        let wire = serde_json::from_value(body).expect("a batch");
        batch_v3(wire, lease(&["c"]), &rules())
    }

    #[test]
    fn a_case_has_its_own_over_what_all_have() {
        let batch = batch(
            json!({"code": "", "env": {"A": "1", "B": "1"}, "cache": "output",
            "limits": {"run": {"wall_time_ms": 500}}, "parallel": 2, "cases": [
                {},
                {"env": {"B": "2"}, "stdin": {"content": "/w==", "encoding": "base64"},
                    "limits": {"wall_time_ms": 100}, "expected_stdout": "x", "compare": "tokens"},
            ]}),
        )
        .expect("acceptable");
        assert_eq!(batch.program.cache, api::CacheLevel::Binary);
        assert_eq!(
            (batch.parallel, batch.after_failure),
            (2, AfterFailure::GoOn)
        );
        let [first, second] = &batch.cases[..] else {
            panic!("{batch:?}")
        };
        let wall = |case: &Case| case.request.limits.run.wall_time.as_millis();
        assert_eq!((wall(first), wall(second)), (500, 100));
        assert_eq!(first.request.env["B"], "1");
        assert_eq!(second.request.env["A"], "1");
        assert_eq!(second.request.env["B"], "2");
        assert_eq!(second.request.stdin, [0xff]);
        assert_eq!(
            (&first.request.stdin[..], &first.expected),
            (&b""[..], &None)
        );
        assert_eq!(second.expected.as_ref().expect("some").stdout, b"x");
    }

    #[test]
    fn what_is_wrong_is_named_with_its_case() {
        let many: Vec<_> = (0..1001).map(|_| json!({})).collect();
        for (cases, more, text) in [
            (json!([]), json!(1), "`cases` has 0 entries"),
            (json!(many), json!(1), "`cases` has 1001 entries"),
            (json!([{}]), json!(0), "`parallel` is 0"),
            (json!([{}]), json!(65), "`parallel` is 65"),
            (
                json!([{}, {"args": ["\0"]}]),
                json!(1),
                "`cases[1].args[0]` holds a NUL",
            ),
            (
                json!([{"expected_stdout": {"content": "x", "encoding": "hex"}}]),
                json!(1),
                "`cases[0].expected_stdout.content` is not hex",
            ),
            (
                json!([{"limits": {"wall_time_ms": 3001}}]),
                json!(1),
                "cases[0].limits.wall_time_ms",
            ),
        ] {
            let error = batch(json!({"code": "", "cases": cases, "parallel": more}));
            let error = error.expect_err("refused").to_string();
            assert!(error.contains(text), "{error}");
        }
    }
}
