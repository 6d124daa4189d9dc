"""Which entry a journal entry builds on, and what of a session's state has changed since that one.

Entries with the whole state each would cost the square of a long plan. So an entry holds what has
changed since an earlier one, which its number tells: to the base 3, the last digit that is not 0
becomes 0. Entry 212 (23) builds on 210 (21), that on 200 (18), and 200 holds everything.

A resume from entry N reads as many entries as N has such digits: at most 3 up to the 26th entry, 7
up to the 2,186th. A change is written about once for each digit of N. A larger base means fewer
reads and more bytes: docs/decisions/0013.
"""

from collections.abc import Iterator, MutableMapping
from typing import Any, TypeVar

__all__ = ["ChangingMap", "number_below"]

_RADIX = 3

V = TypeVar("V")


def number_below(number: int) -> int:
    """The number of the entry that the one of this number builds on; 0 if it is a whole one."""
    place = 1
    while number % (place * _RADIX) == 0:
        place *= _RADIX
    return number - number % (place * _RADIX)


class ChangingMap(MutableMapping[str, V]):
    """A mapping that can tell what has changed in it since some position in its history.

    What changes is noted first: an interrupt in between makes a name too many, and none too few.
    """

    def __init__(self) -> None:
        self._held: dict[str, V] = {}
        self._log: list[str] = []

    def __getitem__(self, name: str) -> V:
        return self._held[name]

    def __setitem__(self, name: str, value: V) -> None:
        self._log.append(name)
        self._held[name] = value

    def __delitem__(self, name: str) -> None:
        self._log.append(name)
        del self._held[name]

    def pop(self, name: str, *default: Any) -> Any:
        """As of a dict. The inherited one raises an error for each name that is not there."""
        if default and name not in self._held:
            return default[0]
        self._log.append(name)
        return self._held.pop(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)

    @property
    def position(self) -> int:
        """Where its history is now."""
        return len(self._log)

    def since(self, position: int) -> tuple[dict[str, V], list[str]]:
        """What is new or other than at a position, and the names that are gone since.

        A name that came and went in between is among those.
        """
        names = dict.fromkeys(self._log[position:])
        changed = {name: self._held[name] for name in names if name in self._held}
        return changed, [name for name in names if name not in self._held]
