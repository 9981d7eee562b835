"""The operations, one method each."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import Any, Optional, Union
from urllib.parse import quote, urlencode

from .errors import PistonError, Refused
from .interact import Conversation
from .results import Batch, Case, Progress, Result
from .transport import Body, Transport, default_host

_BASE = "/api/v3"

#: One file's text or bytes, or files by name, the main one first.
Code = Union[str, bytes, Mapping[str, Union[str, bytes]]]

Json = dict[str, Any]

#: Is told how far an installation is.
Watcher = Optional[Callable[[Progress], None]]

_JSON = {"Content-Type": "application/json"}
_PACKAGE = {"Content-Type": "application/octet-stream"}


class Piston:
    """A daemon at an address.

    Holds no connection: it may be shared by threads and needs no closing. `timeout` is the seconds
    without a byte from the daemon after which a request is given up; a job's own limits make one
    unnecessary where the daemon is trusted, so the default is to wait. `token` (default
    `$PISTON_TOKEN`) is for listeners that ask for one. `cacert` (default `$PISTON_CACERT`) is a file
    (PEM) of the authorities that are trusted at an `https://` address, rather than the system's.
    """

    def __init__(
        self,
        host: str | None = None,
        *,
        timeout: float | None = None,
        token: str | None = None,
        cacert: str | None = None,
    ):
        token = token or os.environ.get("PISTON_TOKEN")
        cacert = cacert or os.environ.get("PISTON_CACERT") or None
        self._transport = Transport(host or default_host(), timeout, token, cacert)

    @property
    def host(self) -> str:
        """The daemon's address."""
        return self._transport.host

    # Jobs.

    def run(self, package: str, code: Code, *, version: str = "*", **options: Any) -> Result:
        """Runs a program to its end.

        `package` and `version`, a range, choose what runs it; `code` is its text or its files.
        Further options: `stdin` (text or bytes), `args`, `env`, `language` (where the package
        has several), `cache` (`none`, `binary` or `output`), `outputs` (globs of files to hand
        back), and limits of the run stage by their names (`wall_time_ms`, `cpu_time_ms`,
        `memory_bytes`, `output_bytes`, `processes`, `open_files`, `file_size_bytes`,
        `disk_bytes`), those of the compile stage in `compile_limits`.
        """
        return Result.parse(
            self._one("POST", _execute(package, version), _request(code, **options))
        )

    def stream(
        self, package: str, code: Code, *, version: str = "*", **options: Any
    ) -> Generator[Json, None, None]:
        """The events of a program as they happen; options as for `run`.

        An event is a mapping whose `event` is `stage`, `stdout`, `stderr` (with `data`), `exit` or,
        the last one, `result`; `Result.parse(event["result"])` is what `run` returns. A reader
        that stops ends the job.
        """
        body = json.dumps(_request(code, **options)).encode()
        return self._events(_execute(package, version), body, _JSON)

    def interact(
        self,
        package: str,
        code: Code,
        *,
        version: str = "*",
        terminal: tuple[int, int] | None = None,
        **options: Any,
    ) -> Conversation:
        """Runs a program that is talked with while it runs; options as for `run`.

        On a terminal of so many columns and rows where `terminal` says so, else with pipes.
        """
        start: Json = {"request": _request(code, **options)}
        if terminal is not None:
            start["terminal"] = {"columns": terminal[0], "rows": terminal[1]}
        return Conversation(self._transport.socket(_BASE + _execute(package, version)), start)

    def batch(
        self,
        package: str,
        code: Code,
        cases: Iterable[Case],
        *,
        version: str = "*",
        stop_on_failure: bool = False,
        parallel: int | None = None,
        **options: Any,
    ) -> Batch:
        """Compiles a program once, runs each case in a sandbox of its own, and judges it.

        `stop_on_failure` begins no case after one that failed, `parallel` runs so many at once;
        further options: `env`, `language`, `cache` and limits, as for `run`.
        """
        request = _request(code, **options)
        request["cases"] = [_case(case) for case in cases]
        request["stop_on_failure"] = stop_on_failure
        if parallel is not None:
            request["parallel"] = parallel
        return Batch.parse(self._one("POST", _path("packages", package, version, "batch"), request))

    def jobs(self) -> list[Json]:
        """Jobs that run or wait."""
        return self._many("/jobs")

    def job(self, job: str) -> Json:
        """One of them."""
        return self._one("GET", _path("jobs", job))

    def kill(self, job: str) -> None:
        """Ends a job; whoever waits for it gets status `KL`."""
        self._one("DELETE", _path("jobs", job))

    # Packages.

    def runtimes(self) -> list[Json]:
        """What can be run: language, version, aliases, package."""
        return self._many("/runtimes")

    def packages(self) -> list[Json]:
        """Installed packages."""
        return self._many("/packages")

    def package(self, package: str, version: str) -> Json:
        """One of them, by its exact version."""
        return self._one("GET", _path("packages", package, version))

    def versions(self, package: str) -> list[Json]:
        """The installed versions of a package; `Refused` where there is none."""
        return self._many(_path("packages", package))

    def install(
        self,
        package: str,
        version: str = "*",
        *,
        repository: str = "all",
        watcher: Watcher = None,
    ) -> Json:
        """Installs from a repository, with dependencies; waits until it is ready.

        `watcher` is called with a `Progress` as it goes on. An installation goes on without its
        client.
        """
        path = _path("repos", repository, "packages", package, version, "install")
        return self._installation(path, None, {}, watcher)

    def upload(self, file: str, *, watcher: Watcher = None) -> Json:
        """Installs a package file of this machine; `watcher` as for `install`."""
        with open(file, "rb") as body:
            return self._installation("/packages", body, _PACKAGE, watcher)

    def make(self, name: str, *, program: str | None = None) -> Json:
        """Makes a package from what the daemon's machine has, and installs it."""
        body: Json = {"from": "host", "name": name}
        if program is not None:
            body["program"] = program
        return self._one("POST", "/make", body)

    def make_debian(self, *packages: str, name: str | None = None, run: str | None = None) -> Json:
        """Makes a package of Debian's packages, or of a language's recipe, and installs it.

        `name` is what it is called, `run` the command that runs a program, such as
        `/usr/bin/lua5.4 {main} {args}`; both follow from the first package by default.
        """
        body: Json = {"from": "debian", "packages": list(packages), "name": name, "run": run}
        return self._one("POST", "/make", {k: v for k, v in body.items() if v is not None})

    def make_recipe(self, files: Mapping[str, str]) -> Json:
        """Makes what a recipe describes, and installs it: `recipe.toml`, `run`, `compile`."""
        return self._one("POST", "/make", {"from": "recipe", "files": dict(files)})

    def extend(
        self,
        package: str,
        *libraries: str,
        version: str | None = None,
        name: str | None = None,
        index: str | None = None,
    ) -> Json:
        """Adds Python libraries, such as `numpy` or `pandas>=2,<3`, to an installed language.

        Programs of the language find them from then on; with `name` they are in a language of that
        name instead. `version` is a range, `index` the URL of another index than the daemon's.
        """
        body: Json = {"from": "extend", "extends": package, "pip": list(libraries)}
        options = {"version": version, "name": name, "index": index}
        given = {key: value for key, value in options.items() if value is not None}
        return self._one("POST", "/make", {**body, **given})

    def verify(self, package: str, version: str) -> Json:
        """Checks that what is on the disk is what was installed: `problems` says what is not."""
        return self._one("POST", _path("packages", package, version, "verify"))

    def set_package(
        self, package: str, version: str, *, cache: str | None, cache_ttl_ms: int | None
    ) -> Json:
        """Sets what is kept of a package's jobs, and for how long; `None` is the default again."""
        body = {"cache": cache, "cache_ttl_ms": cache_ttl_ms}
        return self._one("PATCH", _path("packages", package, version), body)

    def uninstall(self, package: str, version: str, *, cascade: bool = False) -> Json:
        """Removes a package; with `cascade` also what depends on it."""
        query = "?cascade=true" if cascade else ""
        return self._one("DELETE", _path("packages", package, version) + query)

    def collect_garbage(self) -> Json:
        """Removes dependencies that nothing needs any more."""
        return self._one("POST", "/packages/gc")

    # Repositories.

    def repositories(self) -> list[Json]:
        """Configured repositories."""
        return self._many("/repos")

    def add_repository(self, name: str, url: str, *, keys: str | None = None) -> Json:
        """Configures one; with `keys` (armored OpenPGP) all that it has must be signed by one."""
        body = {"url": url} if keys is None else {"url": url, "keys": keys}
        return self._one("PUT", _path("repos", name), body)

    def remove_repository(self, name: str) -> None:
        """Forgets one."""
        self._one("DELETE", _path("repos", name))

    def available(
        self, *, repository: str = "all", query: str | None = None, sync: bool = False
    ) -> list[Json]:
        """What repositories list; with `sync` they are asked anew first."""
        wanted = {"q": query, "sync": "true" if sync else None}
        given = urlencode({name: value for name, value in wanted.items() if value is not None})
        return self._many(_path("repos", repository, "packages") + (given and f"?{given}"))

    # The cache, and the daemon itself.

    def cache(self, package: str | None = None, version: str | None = None) -> Json:
        """How much is kept of jobs, of all packages or of one, and how they fared with it."""
        return self._one("GET", _cache(package, version))

    def purge_cache(self, package: str | None = None, version: str | None = None) -> Json:
        """Forgets it, of all packages or of one."""
        return self._one("DELETE", _cache(package, version))

    # What the operator sets.

    def tokens(self) -> list[Json]:
        """Tokens, without their secrets."""
        return self._many("/tokens")

    def create_token(
        self,
        name: str = "",
        *,
        role: str = "execute",
        rate: str | None = None,
        concurrency: int | None = None,
    ) -> Json:
        """Makes a token; its `secret` is told only this once.

        `role` is `execute` or `admin`, `rate` such as `10/s`, `concurrency` its jobs at once.
        """
        body: Json = {"name": name, "role": role, "rate": rate, "concurrency": concurrency}
        return self._one("POST", "/tokens", {k: v for k, v in body.items() if v is not None})

    def revoke_token(self, token: str) -> None:
        """Lets nobody in any more with a token, by its id."""
        self._one("DELETE", _path("tokens", token))

    def runners(self) -> Json:
        """The operator's limits of languages."""
        return self._one("GET", "/runners")

    def set_runners(self, entries: Sequence[Json], *, check: bool = False) -> Json:
        """Puts others in force; with `check` it only says whether they would be taken."""
        path = "/runners?check=true" if check else "/runners"
        return self._one("PUT", path, {"runners": list(entries)})

    def version(self) -> Json:
        """The daemon's version."""
        return self._one("GET", "/version")

    def info(self) -> Json:
        """What is in force on the daemon's host, and why what is not is not."""
        return self._one("GET", "/info")

    def _installation(
        self, path: str, body: Body, headers: Mapping[str, str], watcher: Watcher
    ) -> Json:
        if watcher is None:
            reply: Json = self._transport.send("POST", _BASE + path, body, headers)
            return reply
        for event in self._events(path, body, headers):
            if event["event"] == "progress":
                watcher(Progress.parse(event))
            elif event["event"] == "result":
                result: Json = event["result"]
                return result
        raise PistonError("the daemon did not say what came of the installation")

    def _events(
        self, path: str, body: Body, headers: Mapping[str, str]
    ) -> Generator[Json, None, None]:
        for line in self._transport.lines(_BASE + path, body, headers):
            if line.strip():
                event: Json = json.loads(line)
                if event["event"] == "error":
                    problem = event["problem"]
                    raise Refused(problem.get("status", 500), problem, None)
                yield event

    def _one(self, method: str, path: str, body: object = None) -> Json:
        reply: Json = self._transport.json(method, _BASE + path, body)
        return reply

    def _many(self, path: str) -> list[Json]:
        reply: list[Json] = self._transport.json("GET", _BASE + path)
        return reply


def _path(*names: str) -> str:
    return "".join("/" + quote(name, safe="") for name in names)


def _execute(package: str, version: str) -> str:
    return _path("packages", package, version, "execute")


def _cache(package: str | None, version: str | None) -> str:
    if package is None and version is None:
        return "/cache"
    if package is None or version is None:
        raise ValueError("a package is named by its name and its exact version")
    return _path("packages", package, version, "cache")


def _case(case: Case) -> Json:
    given: Json = {
        "stdin": _text(case.stdin),
        "expected_stdout": _text(case.expected_stdout),
        "args": list(case.args),
        "env": dict(case.env),
        "compare": case.compare,
        "limits": dict(case.limits),
    }
    return {name: value for name, value in given.items() if value or value == ""}


def _text(content: str | bytes | None) -> Any:
    return _encoded(content) if isinstance(content, bytes) else content


def _request(
    code: Code,
    *,
    stdin: str | bytes | None = None,
    args: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    language: str | None = None,
    cache: str | None = None,
    outputs: Sequence[str] = (),
    compile_limits: Mapping[str, int] | None = None,
    **run_limits: int,
) -> Json:
    """The body of execute. A limit that does not exist is refused by the daemon, by its name."""
    if isinstance(code, Mapping):
        files = [{"name": name, **_file(content)} for name, content in code.items()]
    else:
        files = [_file(code)]
    limits = {"compile": dict(compile_limits or {}), "run": run_limits}
    options: Json = {
        "stdin": _text(stdin),
        "args": list(args),
        "env": dict(env or {}),
        "language": language,
        "cache": cache,
        "outputs": list(outputs),
        "limits": {stage: given for stage, given in limits.items() if given},
    }
    return {"files": files, **{name: value for name, value in options.items() if value}}


def _file(content: str | bytes) -> Json:
    return _encoded(content) if isinstance(content, bytes) else {"content": content}


def _encoded(content: bytes) -> Json:
    return {"content": base64.b64encode(content).decode(), "encoding": "base64"}
