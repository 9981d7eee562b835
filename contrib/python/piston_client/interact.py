"""A program that is talked with while it runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Optional

from .errors import PistonError, Refused, Unreachable
from .results import Result
from .websocket import BINARY, TEXT, WebSocket

Json = dict[str, Any]


class Conversation:
    """A job that gets its input while it runs; iterating over it gives its events as they come.

    Leaving the `with` block, or `close`, ends the job. Another thread may write while one reads,
    but not over `https://`. Who writes much has to read too: a program that waits to print does
    not read its input.
    """

    def __init__(self, socket: WebSocket, start: Json) -> None:
        self._socket = socket
        #: What came of it, when its last event was read.
        self.result: Result | None = None
        try:
            self._say({"type": "start", **start})
        except BaseException:
            self.close()
            raise

    def write(self, data: str | bytes) -> None:
        """Gives the program input."""
        raw = data.encode() if isinstance(data, str) else data
        self._send(BINARY, raw)

    def end(self) -> None:
        """Ends its input."""
        self._say({"type": "eof"})

    def signal(self, name: str) -> None:
        """Sends a signal, such as `SIGINT`, to its process group."""
        self._say({"type": "signal", "signal": name})

    def resize(self, columns: int, rows: int) -> None:
        """Says that the window of its terminal has another size."""
        self._say({"type": "resize", "terminal": {"columns": columns, "rows": rows}})

    def __iter__(self) -> Iterator[Json]:
        """Its events, as of `Piston.stream`; the last one is `result`."""
        while self.result is None:
            try:
                event = self._next()
            except BaseException:
                self.close()
                raise
            if event["event"] == "result":
                self.result = Result.parse(event["result"])
                self.close()
            yield event

    def close(self) -> None:
        """Hangs up, which ends the job where it still runs."""
        self._socket.close()

    def __enter__(self) -> Conversation:
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()

    def _next(self) -> Json:
        try:
            message = self._socket.receive()
        except (OSError, ValueError) as error:
            raise _broken(error) from error
        if message is None:
            reason = self._socket.farewell or "it did not say why"
            raise PistonError(f"the daemon ended the job without a result: {reason}")
        event: Json = json.loads(message)
        if event["event"] == "error":
            problem = event["problem"]
            raise Refused(problem.get("status", 500), problem, None)
        return event

    def _say(self, message: Json) -> None:
        self._send(TEXT, json.dumps(message).encode())

    def _send(self, opcode: int, message: bytes) -> None:
        try:
            self._socket.send(opcode, message)
        except OSError as error:
            raise _broken(error) from error


def _broken(error: Exception) -> Unreachable:
    return Unreachable(f"the connection broke before the program's end: {error}")
