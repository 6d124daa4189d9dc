"""Validating with pydantic, without anything of what was validated in the error.

A `pydantic.ValidationError` holds its input, and an exception that is raised while it is handled
holds it as ``__context__``, even with ``from None``. Reporters of errors follow that. So here it
ends, and what is wrong comes back as a value.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from pydantic import ValidationError

__all__ = ["Invalid", "Problem", "validated"]

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        place: Names of fields and positions in lists, from the outside in.
        kind: pydantic's name for it, such as ``missing`` or ``extra_forbidden``.
        message: One line, without the value, unless a validator of the model's own puts it there.
    """

    place: tuple[str | int, ...]
    kind: str
    message: str

    def where(self, whole: str) -> str:
        """The place in one word; ``whole`` if it is no field but the whole."""
        return ".".join(map(str, self.place)) or whole


@dataclass(frozen=True, slots=True)
class Invalid:
    """All that is wrong."""

    problems: tuple[Problem, ...]

    def line(self, whole: str = "it") -> str:
        """Everything in one line; ``whole`` stands for what was validated."""
        return "; ".join(f"{problem.where(whole)}: {problem.message}" for problem in self.problems)


def validated(validate: Callable[[], _T]) -> _T | Invalid:
    """Call a function that validates, and return what it returns, or what is wrong."""
    try:
        return validate()
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False, include_context=False)
    return Invalid(tuple(Problem(item["loc"], item["type"], item["msg"]) for item in found))
