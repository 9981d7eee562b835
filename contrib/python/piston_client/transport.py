"""Where the daemon is, and one request to it.

Every request has a connection of its own: a Unix socket makes that cheap, and nothing is shared
between threads or left behind by an exception.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Union
from urllib.parse import urlsplit

from .errors import PistonError, Refused, Unreachable
from .websocket import WebSocket, new_key, proof

_SYSTEM_SOCKET = "/run/piston/piston.sock"

Body = Union[bytes, BinaryIO, None]


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float | None):
        super().__init__("piston", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        try:
            self.sock.connect(self._path)
        except BaseException:
            self.close()
            raise


@dataclass(frozen=True)
class Transport:
    """An address: `unix:///path`, `http://host:port[/prefix]` or `https://...`."""

    host: str
    #: Seconds without a byte from the daemon after which a request is given up.
    timeout: float | None
    #: What is said to listeners that ask for a token.
    token: str | None = field(default=None, repr=False)
    #: File (PEM) of the authorities that are trusted at `https://` rather than the system's.
    cacert: str | None = None
    _tls: ssl.SSLContext | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.host.startswith("/"):
            object.__setattr__(self, "host", f"unix://{self.host}")
        if urlsplit(self.host).scheme == "https":
            # Read once: what is wrong with the file is told before anything is sent.
            context = ssl.create_default_context(cafile=self.cacert)
            object.__setattr__(self, "_tls", context)
        self._connection().close()

    def _connection(self) -> http.client.HTTPConnection:
        url = urlsplit(self.host)
        if url.scheme == "unix" and not url.netloc and url.path.startswith("/"):
            return _UnixConnection(url.path, self.timeout)
        if url.scheme == "http" and url.hostname:
            return http.client.HTTPConnection(url.hostname, url.port, timeout=self.timeout)
        if url.scheme == "https" and url.hostname:
            return http.client.HTTPSConnection(
                url.hostname, url.port, timeout=self.timeout, context=self._tls
            )
        raise ValueError(
            f"{self.host!r} is not a daemon's address: "
            "write /path/to/piston.sock or http://host:port"
        )

    def _prefix(self) -> str:
        url = urlsplit(self.host)
        return "" if url.scheme == "unix" else url.path.rstrip("/")

    def json(self, method: str, path: str, body: object = None) -> Any:
        """The reply of an operation that takes and gives JSON."""
        raw = None if body is None else json.dumps(body).encode()
        headers = {} if body is None else {"Content-Type": "application/json"}
        return self.send(method, path, raw, headers)

    def send(self, method: str, path: str, body: Body, headers: Mapping[str, str]) -> Any:
        """The same with a body of any kind."""
        connection = self._connection()
        try:
            text = self._open(connection, method, path, body, dict(headers)).read()
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from error
        finally:
            connection.close()
        return json.loads(text) if text else None

    def lines(self, path: str, body: Body, headers: Mapping[str, str]) -> Iterator[bytes]:
        """The lines of a streamed reply, as they come. Closing the iterator hangs up."""
        headers = {**headers, "Accept": "application/x-ndjson"}
        connection = self._connection()
        try:
            reply = self._open(connection, "POST", path, body, headers)
            yield from reply
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from error
        finally:
            # The reply is a second holder of the socket: closing the connection alone would not
            # hang up.
            if connection.sock is not None:
                connection.sock.shutdown(socket.SHUT_RDWR)
            connection.close()

    def socket(self, path: str) -> WebSocket:
        """A WebSocket at a path."""
        key = new_key()
        headers = {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": key,
        }
        connection = self._connection()
        try:
            reply = self._open(connection, "GET", path, None, headers)
            if reply.getheader("Sec-WebSocket-Accept") != proof(key):
                raise PistonError(
                    f"{self.host} opens no WebSocket: a proxy on the way has to pass upgrades on"
                )
            return WebSocket(connection, reply)
        except BaseException as error:
            connection.close()
            if isinstance(error, (OSError, http.client.HTTPException)):
                raise self._unreachable(error) from error
            raise

    def _open(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: Body,
        headers: dict[str, str],
    ) -> http.client.HTTPResponse:
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        connection.request(method, self._prefix() + path, body, headers)
        reply = connection.getresponse()
        if reply.status >= 400:
            raise _refused(reply)
        return reply

    def _unreachable(self, error: Exception) -> PistonError:
        hint = "is a daemon running there?"
        if isinstance(error, PermissionError):
            hint = "the socket's owner or mode keeps this user out"
        elif isinstance(error, socket.gaierror):
            hint = "check the host's name"
        elif isinstance(error, ssl.SSLCertVerificationError):
            hint = "name the file of its authority with `cacert` or $PISTON_CACERT"
        return Unreachable(f"no answer from {self.host}: {error or type(error).__name__}; {hint}")


def _refused(reply: http.client.HTTPResponse) -> Refused:
    text = reply.read()
    try:
        problem = json.loads(text)
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        problem = {"detail": text.decode(errors="replace")[:500]}
    after = reply.getheader("Retry-After", "")
    return Refused(reply.status, problem, float(after) if after.isdigit() else None)


def default_host() -> str:
    """`$PISTON_HOST`, else the socket of this user's daemon where it is, else the system's."""
    given = os.environ.get("PISTON_HOST")
    if given:
        return given
    sockets = _default_sockets()
    present = [path for path in sockets if os.path.exists(path)]
    return f"unix://{(present or sockets)[0]}"


def _default_sockets() -> list[str]:
    user = os.geteuid()
    if user == 0:
        return [_SYSTEM_SOCKET]
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(runtime):
        return [os.path.join(runtime, "piston", "piston.sock"), _SYSTEM_SOCKET]
    # Anybody may have been first in /tmp: only a folder of this user's own is believed.
    own = f"/tmp/piston-{user}"
    try:
        ours = os.lstat(own).st_uid == user
    except OSError:
        ours = True
    return ([f"{own}/piston.sock"] if ours else []) + [_SYSTEM_SOCKET]
