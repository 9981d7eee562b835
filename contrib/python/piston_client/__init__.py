"""Run code you do not trust: a client for a Piston daemon, over its Unix socket or TCP.

>>> from piston_client import Piston
>>> Piston().run("python", "print(6 * 7)").stdout
'42\\n'

`Piston` has the operations, `Result` and `Stage` are what a job gives back, and everything that
goes wrong is a `PistonError`: `Unreachable` or `Refused`.
"""

from .client import Piston
from .errors import PistonError, Refused, Unreachable
from .results import OutputFile, Result, Stage

__all__ = [
    "OutputFile",
    "Piston",
    "PistonError",
    "Refused",
    "Result",
    "Stage",
    "Unreachable",
]
