"""What can go wrong. A program that fails is none of it: that is a result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class PistonError(Exception):
    """Anything that this package raises on purpose."""


class Unreachable(PistonError):
    """No daemon answers at the address, or it went away before it had answered."""


class Refused(PistonError):
    """The daemon answered with a problem (RFC 9457).

    `code` is the stable machine word to tell problems apart by, `detail` what was wrong and what
    would be right, `retry_after` the seconds after which another try makes sense, if ever.
    """

    def __init__(self, status: int, problem: Mapping[str, Any], retry_after: float | None):
        self.status = status
        self.code = str(problem.get("code", "unknown"))
        self.title = str(problem.get("title", f"HTTP status {status}"))
        self.detail = str(problem.get("detail", ""))
        self.request_id: str | None = problem.get("request_id")
        self.retry_after = retry_after
        super().__init__(f"{self.detail or self.title} ({self.code})")
