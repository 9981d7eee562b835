"""The operations, one method each."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Generator, Mapping, Sequence
from typing import Any, Union
from urllib.parse import quote, urlencode

from .results import Result
from .transport import Transport, default_host

_BASE = "/api/v3"

#: One file's text or bytes, or files by name, the main one first.
Code = Union[str, bytes, Mapping[str, Union[str, bytes]]]

Json = dict[str, Any]


class Piston:
    """A daemon at an address.

    Holds no connection: it may be shared by threads and needs no closing. `timeout` is the seconds
    without a byte from the daemon after which a request is given up; a job's own limits make one
    unnecessary where the daemon is trusted, so the default is to wait. `token` (default
    `$PISTON_TOKEN`) is for listeners that ask for one.
    """

    def __init__(
        self,
        host: str | None = None,
        *,
        timeout: float | None = None,
        token: str | None = None,
    ):
        token = token or os.environ.get("PISTON_TOKEN")
        self._transport = Transport(host or default_host(), timeout, token)

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
        path = _BASE + _execute(package, version)
        for line in self._transport.lines(path, _request(code, **options)):
            if line.strip():
                yield json.loads(line)

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

    def install(self, package: str, version: str = "*", *, repository: str = "all") -> Json:
        """Installs from a repository, with dependencies; waits until it is ready."""
        return self._one(
            "POST", _path("repos", repository, "packages", package, version, "install")
        )

    def upload(self, file: str) -> Json:
        """Installs a package file of this machine."""
        with open(file, "rb") as body:
            headers = {"Content-Type": "application/octet-stream"}
            reply: Json = self._transport.send("POST", f"{_BASE}/packages", body, headers)
            return reply

    def make(self, name: str, *, program: str | None = None) -> Json:
        """Makes a package from what the daemon's machine has, and installs it."""
        body: Json = {"from": "host", "name": name}
        if program is not None:
            body["program"] = program
        return self._one("POST", "/make", body)

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

    def add_repository(self, name: str, url: str) -> Json:
        """Configures one."""
        return self._one("PUT", _path("repos", name), {"url": url})

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

    def cache(self) -> Json:
        """How much is kept of jobs, and how they fared with it."""
        return self._one("GET", "/cache")

    def purge_cache(self) -> Json:
        """Forgets all of it."""
        return self._one("DELETE", "/cache")

    def version(self) -> Json:
        """The daemon's version."""
        return self._one("GET", "/version")

    def info(self) -> Json:
        """What is in force on the daemon's host, and why what is not is not."""
        return self._one("GET", "/info")

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
        "stdin": _encoded(stdin) if isinstance(stdin, bytes) else stdin,
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
