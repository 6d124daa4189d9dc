"""Each call of a store's verbs, as a line at DEBUG.

A store around a store passes its calls on: the outermost one is told, and those below it are not.
"""

import contextvars
from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Self, TypeVar

from writeahead.telemetry import log

__all__ = ["listed", "observed"]

_T = TypeVar("_T")

_is_inside: contextvars.ContextVar[bool] = contextvars.ContextVar("writeahead_store_call", default=False)


def observed(store: object, verb: str, key: str, call: Callable[[], _T]) -> _T:
    """Carry out one verb, and tell of it if anyone listens.

    Args:
        store: Has a ``name``.
        verb: ``put``, ``create`` (a put with ``if_absent``), ``get``, ``head`` or ``delete``.
        key: The key.
        call: Carries it out.

    Returns:
        What ``call`` returns. It raises what ``call`` raises.
    """
    if not _is_on() or _is_inside.get():
        return call()
    with _Told(store, verb, key) as told, told.inside():
        return call()


def listed(store: object, prefix: str, found: Iterator[_T]) -> Iterator[_T]:
    """Pass a listing on, and tell of it at its end if anyone listens. Arguments as `observed`."""
    if not _is_on() or _is_inside.get():
        yield from found
        return
    with _Told(store, "list", prefix) as told:
        while True:
            # Not across a yield: there the caller's code runs.
            with told.inside():
                one = next(found, told)
            if isinstance(one, _Told):
                return
            told.objects = (told.objects or 0) + 1
            yield one


def _is_on() -> bool:
    return log.STORE.has_debug


class _Inside:
    """Marks that what runs inside is below a call that is told."""

    def __enter__(self) -> None:
        self._token = _is_inside.set(True)

    def __exit__(self, *_: object) -> None:
        _is_inside.reset(self._token)


class _Told:
    """One call, from its beginning to its end."""

    def __init__(self, store: object, verb: str, key: str) -> None:
        self._store, self._verb, self._key = store, verb, key
        self.objects: int | None = None if verb != "list" else 0

    def __enter__(self) -> Self:
        self._begun = perf_counter()
        return self

    def inside(self) -> _Inside:
        """Mark what runs inside as part of this call."""
        return _Inside()

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        # A listing that is left before its end is no failure.
        failed = None if isinstance(error, GeneratorExit) else error
        log.STORE.debug(
            "called",
            store=getattr(self._store, "name", None),
            verb=self._verb,
            key=self._key,
            objects=self.objects,
            seconds=perf_counter() - self._begun,
            error=failed,
        )
