"""What a look at an environment comes to, one line at a time."""

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Finding", "Level"]


class Level(StrEnum):
    """How much a finding matters."""

    OK = "ok"
    UNKNOWN = "unknown"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        subject: What it is about: ``token``, ``table contacts``.
        level: ``problem``: a run would fail; ``warning``: it may, or proves less; ``unknown``: it
            could not be found out.
        text: What was found, and what to do. It holds no host, id, secret or value of a record.
    """

    subject: str
    level: Level
    text: str
