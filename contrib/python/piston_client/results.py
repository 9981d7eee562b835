"""What a job gives back."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Stage:
    """How one stage ended and what it printed."""

    stdout: str
    stderr: str
    #: Both, in the order received.
    output: str
    #: The exit code; `None` when a signal ended it.
    code: int | None
    #: The signal's name, such as `SIGKILL`.
    signal: str | None
    #: `None` when it ended well; else RE, SG, TO, ML, OL, EL, KL or XX.
    status: str | None
    #: The status in words.
    message: str | None
    wall_time_ms: int
    cpu_time_ms: int
    #: What of that was in the kernel.
    system_time_ms: int
    #: Peak of all its processes together.
    memory_bytes: int
    #: Whether output was cut at its limit.
    truncated: bool
    #: Whether bytes that are not UTF-8 were replaced in one of the texts.
    lossy: bool

    @property
    def ok(self) -> bool:
        """Whether it ended by itself with exit code 0."""
        return self.status is None

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Stage:
        """From the `compile` or `run` of a reply."""
        given = {name: raw[name] for name in cls.__dataclass_fields__ if name != "lossy"}
        return cls(lossy=raw.get("lossy", False), **given)


@dataclass(frozen=True)
class OutputFile:
    """A file that the job left and `outputs` named."""

    name: str
    content: bytes


@dataclass(frozen=True)
class Result:
    """A job that came to its end."""

    id: str
    language: str
    version: str
    #: `None` when there was nothing to compile.
    compile: Stage | None
    #: `None` when it did not start, since compiling failed.
    run: Stage | None
    files: list[OutputFile]
    #: `miss`, `binary` (the compile stage was kept) or `output` (the whole result was).
    cache: str
    #: What the daemon's own steps took, in microseconds.
    timings: dict[str, int]

    @property
    def last(self) -> Stage:
        """The stage that the job ended with: `run`, or a `compile` that failed."""
        last = self.run or self.compile
        if last is None:
            raise ValueError("a result without any stage")
        return last

    @property
    def ok(self) -> bool:
        """Whether every stage ended by itself with exit code 0."""
        return self.last.ok

    @property
    def stdout(self) -> str:
        """What the last stage wrote to standard output."""
        return self.last.stdout

    @property
    def stderr(self) -> str:
        """What the last stage wrote to standard error."""
        return self.last.stderr

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Result:
        """From the reply of execute, or the `result` of the last event of a stream."""
        compiled, ran = raw.get("compile"), raw.get("run")
        return cls(
            id=raw["id"],
            language=raw["language"],
            version=raw["version"],
            compile=Stage.parse(compiled) if compiled else None,
            run=Stage.parse(ran) if ran else None,
            files=[
                OutputFile(file["name"], base64.b64decode(file["content"]))
                for file in raw.get("files", [])
            ],
            cache=raw["cache"],
            timings=dict(raw["timings"]),
        )


@dataclass(frozen=True)
class Case:
    """One input of a batch, and what has to come of it."""

    stdin: str | bytes | None = None
    #: `None`: to end well is enough.
    expected_stdout: str | bytes | None = None
    args: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    #: When an output is right: `exact`, `trim` (whitespace at the ends of lines aside), `tokens`.
    compare: str = "trim"
    #: Limits of this case by their names, lower than those of all.
    limits: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class CaseResult:
    """What came of one case."""

    index: int
    #: AC, WA, or the status that it ended with; `None` when it was not run.
    verdict: str | None
    run: Stage | None
    #: Whether its output is left out, since a batch has room for 32 MiB of it.
    omitted: bool

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> CaseResult:
        """From one of the `cases` of a reply."""
        ran = raw.get("run")
        return cls(
            index=raw["index"],
            verdict=raw["verdict"],
            run=Stage.parse(ran) if ran else None,
            omitted=raw.get("omitted", False),
        )


@dataclass(frozen=True)
class Batch:
    """A program with many inputs that came to its end."""

    id: str
    language: str
    version: str
    #: That of the first case that was not accepted; `AC` when all were, `CE` when it does not
    #: compile.
    verdict: str
    compile: Stage | None
    cases: list[CaseResult]
    cache: str

    @property
    def ok(self) -> bool:
        """Whether every case was accepted."""
        return self.verdict == "AC"

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Batch:
        """From the reply of batch."""
        compiled = raw.get("compile")
        return cls(
            id=raw["id"],
            language=raw["language"],
            version=raw["version"],
            verdict=raw["verdict"],
            compile=Stage.parse(compiled) if compiled else None,
            cases=[CaseResult.parse(case) for case in raw["cases"]],
            cache=raw["cache"],
        )


@dataclass(frozen=True)
class Progress:
    """How far the installation of one package is."""

    #: Its name and version.
    language: str
    version: str
    #: `make`, `download`, `unpack`, `verify` or `publish`.
    phase: str
    #: Bytes done in this phase, of so many where that is known.
    bytes: int
    total: int | None

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Progress:
        """From an event of an installation."""
        package = raw["package"]
        return cls(
            language=package["language"],
            version=package["version"],
            phase=raw["phase"],
            bytes=raw["bytes"],
            total=raw.get("total"),
        )
