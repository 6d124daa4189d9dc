"""Events as lines of the standard library's loggers: one event a line, ``key=value`` pairs.

The loggers are ``writeahead.run``, ``writeahead.sweep`` and ``writeahead.store``. Each field of a
line is an attribute of its record, too, for formatters that write JSON.

A line has ids, names and numbers. It has no payload, no receipt, no header and no message of a
remote, which may repeat any of these: of an error it has the class.
"""

import contextlib
import json
import logging
import re
from collections.abc import Iterable

__all__ = ["RUN", "STORE", "SWEEP", "EventLog", "ids"]

_PLAIN = re.compile(r"[\w.:/@+-]+", re.ASCII)


class EventLog:
    """One logger.

    Args:
        name: Its name.
    """

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)
        # As libraries should: without it, the last resort prints warnings on stderr.
        # https://docs.python.org/3/howto/logging.html#configuring-logging-for-a-library
        self._logger.addHandler(logging.NullHandler())

    def debug(self, event: str, **fields: object) -> None:
        """Log a step: an attempt, an entry of the journal, a call of a store."""
        self._log(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: object) -> None:
        """Log a beginning, or an end that needs no one."""
        self._log(logging.INFO, event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Log an end that is not what was asked for."""
        self._log(logging.WARNING, event, fields)

    @property
    def has_debug(self) -> bool:
        """Whether steps are logged at all."""
        return self._logger.isEnabledFor(logging.DEBUG)

    def _log(self, level: int, event: str, fields: dict[str, object]) -> None:
        if not self._logger.isEnabledFor(level):
            return
        # A handler or a filter of the program's may raise.
        with contextlib.suppress(Exception):
            known = {name: _value(value) for name, value in fields.items() if value is not None}
            line = " ".join([f"event={event}", *(f"{name}={_text(value)}" for name, value in known.items())])
            self._logger.log(level, "%s", line, extra={"event": event, **known}, stacklevel=3)


def _value(value: object) -> object:
    """A field as a record has it: a number, or a text in one line."""
    if isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, type):
        return value.__name__
    if isinstance(value, BaseException):
        return type(value).__name__
    # Without what breaks a line, or moves a terminal's cursor: a formatter may print it as it is.
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in str(value))


def _text(value: object) -> str:
    text = str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text)


def ids(operations: Iterable[str]) -> str | None:
    """The ids of the operations that an event is about, as one field; None without any."""
    return ",".join(operations) or None


RUN = EventLog("writeahead.run")
SWEEP = EventLog("writeahead.sweep")
STORE = EventLog("writeahead.store")
