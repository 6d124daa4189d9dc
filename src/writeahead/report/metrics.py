"""What a store holds that is not at its end, as metrics for Prometheus."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from writeahead.model import BlockReason, RunStatus
from writeahead.protocol.finding import SessionSummary

__all__ = ["OpenSessions"]

_UNKNOWN = "unknown"
_STATUSES = (RunStatus.RESUME_NEEDED, RunStatus.IN_PROGRESS, RunStatus.BLOCKED, _UNKNOWN)


@dataclass(frozen=True)
class OpenSessions:
    """The sessions of a store that are not at their end, counted.

    Attributes:
        store: The store's name.
        by_status: How many there are, by status; ``unknown`` has no plan, or can't be read.
        blocked: How many of them are blocked, by the reason.
        oldest: Seconds since the oldest one was planned, by status; 0 without any.
    """

    store: str
    by_status: Mapping[str, int]
    blocked: Mapping[str, int]
    oldest: Mapping[str, float]

    @classmethod
    def of(cls, store: str, sessions: Iterable[SessionSummary], now: datetime) -> "OpenSessions":
        """Count the sessions of a list; memory does not grow with it."""
        statuses, reasons = Counter(dict.fromkeys(_STATUSES, 0)), Counter(dict.fromkeys(BlockReason, 0))
        oldest: dict[str, float] = dict.fromkeys(_STATUSES, 0.0)
        for session in sessions:
            status = session.status or _UNKNOWN
            statuses[status] += 1
            if session.block_reason and status is RunStatus.BLOCKED:
                reasons[session.block_reason] += 1
            if session.planned_at:
                age = (now - session.planned_at).total_seconds()
                oldest[status] = max(oldest.get(status, 0.0), age)
        return cls(
            store,
            {str(name): count for name, count in statuses.items()},
            {str(name): count for name, count in reasons.items()},
            {str(name): round(age, 3) for name, age in oldest.items()},
        )

    def document(self) -> dict[str, Any]:
        """The same as JSON."""
        return {
            "store": self.store,
            "open_sessions": dict(self.by_status),
            "blocked_sessions": dict(self.blocked),
            "oldest_open_session_age_seconds": dict(self.oldest),
        }

    def text(self) -> str:
        """The same in the text format, version 0.0.4.

        https://prometheus.io/docs/instrumenting/exposition_formats/
        """
        families = (
            ("open_sessions", "Sessions that are not at their end.", "status", self.by_status),
            ("blocked_sessions", "Sessions that wait for an operator.", "reason", self.blocked),
            (
                "oldest_open_session_age_seconds",
                "Time since the oldest session that is not at its end was planned; 0 without any.",
                "status",
                self.oldest,
            ),
        )
        lines: list[str] = []
        for name, help_text, label, values in families:
            lines += [f"# HELP writeahead_{name} {help_text}", f"# TYPE writeahead_{name} gauge"]
            lines += [
                f'writeahead_{name}{{store="{_escaped(self.store)}",{label}="{_escaped(value)}"}} {number}'
                for value, number in values.items()
            ]
        return "\n".join(lines) + "\n"


def _escaped(value: str) -> str:
    """A label's value; a folder's name may have any character, and half a surrogate pair."""
    text = value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    return text.encode("utf-8", "backslashreplace").decode()
