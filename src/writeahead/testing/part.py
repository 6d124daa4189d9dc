"""What the contract kits share: impossible parts, and what a backdoor must have."""

import os
from collections.abc import Mapping
from typing import ClassVar

import pytest

__all__ = ["Part", "require_members"]


class Part:
    """Some of the tests of a contract.

    Attributes:
        impossible: What the system under test can't have: the part's name, and the reason.
    """

    impossible: ClassVar[Mapping[str, str]] = {}

    def _need(self, *parts: str) -> None:
        """Skip a test that needs a part that was declared impossible, and say why."""
        if "fork" in parts and not hasattr(os, "fork"):
            pytest.skip("this system has no fork")
        for part in parts:
            if part in self.impossible:
                pytest.skip(f"{part} declared impossible: {self.impossible[part]}")


def require_members(place: object, *names: str, part: str | None = None) -> None:
    """Fail a test whose backdoor lacks what it needs, with a line that says what to do.

    Args:
        place: The backdoor.
        names: The methods and properties that it must have.
        part: The part of the contract that needs them; None if every part does.
    """
    missing = [name for name in names if not hasattr(place, name)]
    way_out = f", or declare {part!r} impossible, with the reason" if part else ""
    assert not missing, f"give {type(place).__name__} {' and '.join(missing)}{way_out}"
