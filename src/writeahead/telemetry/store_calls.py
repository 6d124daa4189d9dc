"""Each call of a store's verbs, as a line at DEBUG and as a span.

A store around a store passes its calls on: the outermost one is told, and those below it are not.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Self, TypeVar

from writeahead.telemetry import log, tracing

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
    return log.STORE.has_debug or tracing.is_on()


class _Told:
    """One call, from its beginning to its end."""

    def __init__(self, store: object, verb: str, key: str) -> None:
        self._name, self._verb, self._key = getattr(store, "name", None), verb, key
        self.objects: int | None = None if verb != "list" else 0
        self._span = tracing.span(
            f"writeahead.store {verb}",
            is_client=not getattr(store, "is_local", True),
            store=self._name,
            key=key,
        )

    def __enter__(self) -> Self:
        self._begun = perf_counter()
        self._span.begin()
        return self

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Mark what runs inside as part of this call."""
        token = _is_inside.set(True)
        try:
            with self._span.inside():
                yield
        finally:
            _is_inside.reset(token)

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        # A listing that is left before its end is no failure.
        failed = None if isinstance(error, GeneratorExit) else error
        if failed is not None:
            self._span.failed(failed)
        self._span.set(objects=self.objects)
        self._span.end()
        log.STORE.debug(
            "called",
            store=self._name,
            verb=self._verb,
            key=self._key,
            objects=self.objects,
            seconds=perf_counter() - self._begun,
            error=failed,
        )
