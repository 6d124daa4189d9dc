"""What survives, one change at a time, and the reason that is on file for it: survivors.toml."""

import ast
import difflib
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

LISTED = Path(__file__).with_name("survivors.toml")


class Change(NamedTuple):
    """One mutant, by what it changes: mutmut's numbers move with every line of code."""

    function: str
    was: str
    became: str


def changes(names: Iterable[str], mutated: str) -> dict[str, Change]:
    """What mutants change, by their names.

    Args:
        names: mutmut's, of one module, e.g. ``writeahead.protocol.retry.x_with_retries__mutmut_9``.
        mutated: mutmut's text of the module: each function as it was, and a copy for each mutant
            of it.
    """
    lines = [line.strip() for line in mutated.splitlines()]
    # Without the line of the name, which differs.
    bodies = {
        node.name: lines[node.body[0].lineno - 1 : node.end_lineno]
        for node in ast.walk(ast.parse(mutated))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    return {name: _change(name, bodies) for name in names}


def reasons() -> dict[Change, str]:
    """The reason on file for each change that may survive."""
    groups = tomllib.loads(LISTED.read_text())["group"]
    return {Change(*change): group["reason"] for group in groups for change in group["changes"]}


def _change(name: str, bodies: Mapping[str, Sequence[str]]) -> Change:
    module, _, mutant = name.rpartition(".")
    before, after = bodies[f"{mutant.rpartition('__mutmut_')[0]}__mutmut_orig"], bodies[mutant]
    lines = [
        line
        for line in difflib.unified_diff(before, after, n=0, lineterm="")
        if line[:1] in "+-" and line[:3] not in ("---", "+++")
    ]
    return Change(
        f"{module.removeprefix('writeahead.')}.{_function(mutant)}",
        _joined(line for line in lines if line[0] == "-"),
        _joined(line for line in lines if line[0] == "+"),
    )


def _function(mutant: str) -> str:
    """``x_put__mutmut_1`` is of ``put``, ``xǁLocalStoreǁ_put__mutmut_1`` of ``LocalStore._put``."""
    name = mutant.rpartition("__mutmut_")[0].removeprefix("x")
    return ".".join(name.split("ǁ")[1:]) if name.startswith("ǁ") else name.removeprefix("_")


def _joined(lines: Iterable[str]) -> str:
    return " ".join(line[1:] for line in lines)
