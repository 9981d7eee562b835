"""Run code you do not trust: a client for a Piston daemon, over its Unix socket or TCP.

>>> from piston_client import Piston
>>> Piston().run("python", "print(6 * 7)").stdout
'42\\n'

`Piston` has the operations, `Result` and `Stage` are what a job gives back, `Batch` what many
`Case`s of one program do, a `Conversation` is a program that is talked with, `Progress` how far an
installation is; everything that goes wrong is a `PistonError`: `Unreachable` or `Refused`.
"""

from .client import Piston
from .errors import PistonError, Refused, Unreachable
from .interact import Conversation
from .results import Batch, Case, CaseResult, OutputFile, Progress, Result, Stage

__all__ = [
    "Batch",
    "Case",
    "CaseResult",
    "Conversation",
    "OutputFile",
    "Piston",
    "PistonError",
    "Progress",
    "Refused",
    "Result",
    "Stage",
    "Unreachable",
]
