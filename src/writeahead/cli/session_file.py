"""The FILE of ``writeahead run``: a session as JSON, read strictly."""

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, JsonValue

from writeahead._validation import Invalid, Problem, validated
from writeahead.errors import InvalidInput
from writeahead.model import Operation

__all__ = ["SessionFile", "read_json", "read_lines", "read_session_file", "session_of_line"]


class SessionFile(BaseModel):
    """``{"session_id": ..., "operations": [{"kind": ..., "payload": {...}}, ...]}``.

    An operation may also have an ``id``, a ``baseline`` and ``"independent": true``: see
    `writeahead.Operation`.
    ``identity`` and ``namespace`` are optional: see `writeahead.write_back`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    session_id: str
    operations: Sequence[Operation]
    identity: JsonValue = None
    namespace: str = ""


def read_session_file(name: str) -> SessionFile:
    """Read a session from a file, or from stdin if the name is ``-``.

    Raises:
        InvalidInput: The file does not exist, is not JSON in UTF-8, or is not a session. The
            message names file and place.
    """
    shown = "stdin" if name == "-" else name
    document = read_json(name)
    try:
        return _session(document)
    except ValueError as error:
        raise InvalidInput(f"{shown}: {error}") from None


def session_of_line(line: bytes) -> SessionFile:
    """Read a session from a line of a file.

    Raises:
        InvalidInput: It is not JSON in UTF-8, or not a session. The message names the place within
            the line.
    """
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"byte {error.start + 1} is not UTF-8") from None
    try:
        return _session(_parsed(text))
    except json.JSONDecodeError as error:
        raise InvalidInput(f"column {error.colno}: not JSON: {error.msg}") from None
    except ValueError as error:
        raise InvalidInput(str(error)) from None


def read_json(name: str) -> Any:
    """Read JSON from a file, or from stdin if the name is ``-``.

    Raises:
        InvalidInput: The file does not exist, or is not JSON in UTF-8. The message names file and
            place.
    """
    shown = "stdin" if name == "-" else name
    text = _text(_bytes(name, shown), shown)
    try:
        return _parsed(text)
    except json.JSONDecodeError as error:
        raise InvalidInput(
            f"{shown}: line {error.lineno}, column {error.colno}: not JSON: {error.msg}"
        ) from None
    except ValueError as error:
        raise InvalidInput(f"{shown}: {error}") from None


def read_lines(name: str) -> list[tuple[int, str]]:
    """Read a list from a file, or from stdin if the name is ``-``: its lines and their numbers.

    Empty lines and those that begin with # are left out.

    Raises:
        InvalidInput: The file does not exist, or is not UTF-8.
    """
    shown = "stdin" if name == "-" else name
    lines = enumerate(_text(_bytes(name, shown), shown).splitlines(), 1)
    return [(number, line.strip()) for number, line in lines if line.strip() and line.strip()[0] != "#"]


def _bytes(name: str, shown: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except FileNotFoundError:
        raise InvalidInput(f"{shown}: there is no such file") from None
    except OSError as error:
        raise InvalidInput(f"{shown}: can't be read: {error.strerror}") from None


def _text(data: bytes, shown: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InvalidInput(f"{shown}: line {line}: byte {error.start} is not UTF-8") from None


def _parsed(text: str) -> Any:
    try:
        return json.loads(
            text, object_pairs_hook=_no_duplicates, parse_constant=_refused, parse_float=_finite
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _session(document: Any) -> SessionFile:
    if not isinstance(document, dict):
        raise InvalidInput('not a session: write {"session_id": ..., "operations": [...]}')
    found = validated(lambda: SessionFile.model_validate(document))
    if isinstance(found, Invalid):
        raise InvalidInput("; ".join(map(_described, found.problems[:3])))
    return found


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            # JSON readers differ in which of the two they keep (RFC 8259, section 4).
            raise ValueError(f"key {name!r} stands twice in one object")
        found[name] = value
    return found


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text} is larger than a number can be")
    return number


def _refused(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _described(problem: Problem) -> str:
    match problem.place:
        case ("operations", int(position), *rest):
            # Counted from 1, as in the ids that operations get by default.
            place: list[str | int] = [f"operation {position + 1}", *rest]
        case _:
            place = list(problem.place)
    where = ": ".join(map(str, place))
    match problem.kind:
        case "missing":
            return f"{where} is missing"
        case "extra_forbidden":
            return f"{where} is unknown here"
    return f"{where}: {problem.message}"
