//! The JSON of the v3 API as programs see it: a change here is a change of the API.

use std::collections::BTreeMap;

use piston_client::api::{
    CacheLevel, CacheOutcome, Code, ExecuteRequest, ExecuteResponse, InputFile, Job, JobState,
    Limits, MakeRequest, OutputEncoding, OutputFile, Problem, StageLimits, StageResult, Status,
    Stdin, TextEncoding, Timings, Verdict,
};
use piston_client::ids::{JobId, PackageRef};
use piston_client::units::{Bytes, Millis};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The JSON of a value, which must be read back as that value.
fn json<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T) -> String {
    let text = serde_json::to_string_pretty(value).expect("plain data");
    assert_eq!(
        serde_json::from_str::<T>(&text).expect("our own JSON"),
        *value
    );
    text
}

#[test]
fn a_small_request_is_small() {
    let request = ExecuteRequest {
        code: Some("print(1)".into()),
        stdin: Some(Stdin::Text("x".into())),
        ..ExecuteRequest::default()
    };
    insta::assert_snapshot!(json(&request), @r#"
    {
      "code": "print(1)",
      "stdin": "x",
      "encoding": "utf8"
    }
    "#);
}

#[test]
fn a_full_request_is_this() {
    let request = ExecuteRequest {
        language: Some("c++".parse().unwrap()),
        files: vec![InputFile {
            name: Some("main.cpp".into()),
            content: "/w==".into(),
            encoding: TextEncoding::Base64,
        }],
        code: None,
        args: vec!["-a".into()],
        stdin: Some(Stdin::Encoded {
            content: "ff".into(),
            encoding: TextEncoding::Hex,
        }),
        env: BTreeMap::from([("LANG".into(), "C".into())]),
        limits: StageLimits {
            compile: Limits {
                wall_time_ms: Some(Millis(10_000)),
                ..Limits::default()
            },
            run: Limits {
                wall_time_ms: Some(Millis(3000)),
                cpu_time_ms: Some(Millis(2000)),
                memory_bytes: Some(Bytes::mib(64)),
                output_bytes: Some(Bytes::kib(64)),
                processes: Some(8),
                open_files: Some(64),
                file_size_bytes: Some(Bytes::mib(1)),
                disk_bytes: Some(Bytes::mib(2)),
            },
        },
        cache: Some(CacheLevel::Binary),
        outputs: vec!["*.png".into()],
        encoding: OutputEncoding::Base64,
    };
    insta::assert_snapshot!(json(&request), @r#"
    {
      "language": "c++",
      "files": [
        {
          "name": "main.cpp",
          "content": "/w==",
          "encoding": "base64"
        }
      ],
      "args": [
        "-a"
      ],
      "stdin": {
        "content": "ff",
        "encoding": "hex"
      },
      "env": {
        "LANG": "C"
      },
      "limits": {
        "compile": {
          "wall_time_ms": 10000
        },
        "run": {
          "wall_time_ms": 3000,
          "cpu_time_ms": 2000,
          "memory_bytes": 67108864,
          "output_bytes": 65536,
          "processes": 8,
          "open_files": 64,
          "file_size_bytes": 1048576,
          "disk_bytes": 2097152
        }
      },
      "cache": "binary",
      "outputs": [
        "*.png"
      ],
      "encoding": "base64"
    }
    "#);
}

#[test]
fn an_unknown_field_of_a_request_is_refused_by_name() {
    let error =
        serde_json::from_str::<ExecuteRequest>(r#"{"code":"","timeout":3}"#).expect_err("unknown");
    assert!(
        error.to_string().contains("unknown field `timeout`"),
        "{error}"
    );
}

#[test]
fn an_unknown_field_of_a_reply_is_passed_over() {
    let json = r#"{"id":"00000000000000000000000000000001","package":{"language":"a",
        "version":"1.0.0"},"language":"a","state":"run","age_ms":1,"new":true}"#;
    let job: Job = serde_json::from_str(json).expect("a job");
    assert_eq!(job.state, JobState::Run);
}

fn stage() -> StageResult {
    StageResult {
        stdout: "out".into(),
        stderr: "err".into(),
        output: "outerr".into(),
        lossy: true,
        code: None,
        signal: Some("SIGKILL".into()),
        status: Some(Status::TimedOut),
        message: Some("time limit".into()),
        wall_time_ms: Millis(3001),
        cpu_time_ms: Millis(2990),
        system_time_ms: Millis(90),
        memory_bytes: Bytes::mib(9),
        truncated: false,
    }
}

#[test]
fn a_reply_is_this() {
    let stage = stage();
    let reply = ExecuteResponse {
        id: JobId::from_random(1),
        language: "c++".parse().unwrap(),
        version: "12.2.0".parse().unwrap(),
        compile: Some(StageResult {
            lossy: false,
            code: Some(0),
            signal: None,
            status: None,
            message: None,
            ..stage.clone()
        }),
        run: Some(stage),
        files: vec![OutputFile {
            name: "a".into(),
            content: "eA==".into(),
            size: Bytes(1),
        }],
        cache: CacheOutcome::Miss,
        timings: Timings {
            queue_us: 1,
            sandbox_us: 2,
            collect_us: 3,
        },
    };
    insta::assert_snapshot!(json(&reply), @r#"
    {
      "id": "00000000000000000000000000000001",
      "language": "c++",
      "version": "12.2.0",
      "compile": {
        "stdout": "out",
        "stderr": "err",
        "output": "outerr",
        "code": 0,
        "signal": null,
        "status": null,
        "message": null,
        "wall_time_ms": 3001,
        "cpu_time_ms": 2990,
        "system_time_ms": 90,
        "memory_bytes": 9437184,
        "truncated": false
      },
      "run": {
        "stdout": "out",
        "stderr": "err",
        "output": "outerr",
        "lossy": true,
        "code": null,
        "signal": "SIGKILL",
        "status": "TO",
        "message": "time limit",
        "wall_time_ms": 3001,
        "cpu_time_ms": 2990,
        "system_time_ms": 90,
        "memory_bytes": 9437184,
        "truncated": false
      },
      "files": [
        {
          "name": "a",
          "content": "eA==",
          "size": 1
        }
      ],
      "cache": "miss",
      "timings": {
        "queue_us": 1,
        "sandbox_us": 2,
        "collect_us": 3
      }
    }
    "#);
}

#[test]
fn every_status_and_verdict_has_its_two_letters() {
    let statuses = [
        (Status::RuntimeError, "RE"),
        (Status::Signalled, "SG"),
        (Status::TimedOut, "TO"),
        (Status::StdoutLimit, "OL"),
        (Status::StderrLimit, "EL"),
        (Status::MemoryLimit, "ML"),
        (Status::Killed, "KL"),
        (Status::Internal, "XX"),
    ];
    for (status, letters) in statuses {
        assert_eq!(serde_json::to_value(status).unwrap(), letters);
        let verdict: Verdict = serde_json::from_value(letters.into()).unwrap();
        assert_eq!(verdict, Verdict::Ended(status));
        assert_eq!(verdict.to_string(), letters);
    }
    for (verdict, letters) in [
        (Verdict::Accepted, "AC"),
        (Verdict::WrongAnswer, "WA"),
        (Verdict::CompileError, "CE"),
    ] {
        assert_eq!(serde_json::to_value(verdict).unwrap(), letters);
        assert_eq!(verdict.to_string(), letters);
    }
}

#[test]
fn making_a_package_and_a_job_are_this() {
    let request = MakeRequest {
        program: Some("/opt/python3".into()),
        install: false,
        ..MakeRequest::host("python".parse().unwrap())
    };
    insta::assert_snapshot!(json(&request), @r#"
    {
      "from": "host",
      "name": "python",
      "program": "/opt/python3",
      "install": false
    }
    "#);
    let job = Job {
        id: JobId::from_random(1),
        package: PackageRef::new("gcc".parse().unwrap(), "12.2.0".parse().unwrap()),
        language: "c".parse().unwrap(),
        state: JobState::Compile,
        requester: "uid 1000".into(),
        age_ms: Millis(12),
    };
    insta::assert_snapshot!(json(&job), @r#"
    {
      "id": "00000000000000000000000000000001",
      "package": {
        "language": "gcc",
        "version": "12.2.0"
      },
      "language": "c",
      "state": "compile",
      "requester": "uid 1000",
      "age_ms": 12
    }
    "#);
}

#[test]
fn a_problem_is_this() {
    let mut problem = Problem::new(Code::LimitTooHigh, "limits.run.wall_time_ms: at most 3000");
    problem.request_id = Some("r1".into());
    insta::assert_snapshot!(json(&problem), @r#"
    {
      "type": "about:blank#limit_too_high",
      "title": "Limit too high",
      "status": 422,
      "detail": "limits.run.wall_time_ms: at most 3000",
      "code": "limit_too_high",
      "request_id": "r1"
    }
    "#);
}
