"""resume_item(): one session as a work item, for executors and engines that carry such items.

An item is data: a store's URL, an adapter's name with its settings, and a session's id. So it can
cross the border of a process or of a machine. Delivering an item twice, or to two workers at once,
does no harm: the store lets one of them resume the session.
"""

import atexit
import contextlib
import json
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from writeahead.adapters.base import Adapter
from writeahead.adapters.registry import open_adapter
from writeahead.errors import InvalidInput, StoreError
from writeahead.model import BlockReason, RunPolicy, RunStatus
from writeahead.protocol.breaker import Breaker
from writeahead.protocol.finding import Found
from writeahead.protocol.keys import open_key, require_session_id
from writeahead.protocol.retry import Clock
from writeahead.protocol.settling import Settler, SweepResult
from writeahead.protocol.turns import next_look
from writeahead.stores.base import ArtifactStore
from writeahead.stores.registry import open_store

__all__ = ["AdapterSpec", "Opened", "Outcome", "opened", "resume_item"]

_DEFAULT_POLICY = RunPolicy()


@dataclass(frozen=True)
class AdapterSpec:
    """An adapter as data, for a worker to open.

    Attributes:
        name: As for ``--adapter``: an installed one, such as ``dataverse``, or ``module:factory``.
        settings: Keyword arguments of its factory, as JSON has them. No secrets: an engine keeps
            its items, and logs them. A factory reads those from the worker's environment.
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """How a session stands after its item was worked on.

    Attributes:
        session_id: The session.
        status: Its status; None if it can't be read, has no plan, or is another adapter's.
        block_reason: Why it is blocked, if it is.
        error: What keeps it from being completed, in one line.
        not_before: When to deliver the item again; None if it is done with.
    """

    session_id: str
    status: RunStatus | None = None
    block_reason: BlockReason | None = None
    error: str | None = None
    not_before: datetime | None = None

    @property
    def is_done(self) -> bool:
        """Whether the item is done with: completed, or waiting for an operator."""
        return self.not_before is None


def resume_item(
    store_url: str,
    adapter_spec: AdapterSpec | str,
    session_id: str,
    *,
    policy: RunPolicy = _DEFAULT_POLICY,
    stop: threading.Event | None = None,
    clock: Clock | None = None,
) -> Outcome:
    """Do about one session what a sweep would: resume it, if it is due.

    Store and adapter are opened once in each process, and are shared by its threads.

    Args:
        store_url: As for `writeahead.open_store`; one that all workers reach.
        adapter_spec: The adapter, or its name alone.
        session_id: The session.
        policy: How hard to try.
        stop: As for `write_back`; it can't be sent to another process.
        clock: Where time comes from; for tests.

    Returns:
        How the session stands. What goes wrong with it is in there, not raised. If it has to wait,
        for a remote, for another run's lease or for the store, ``not_before`` says how long.

    Raises:
        InvalidInput: The URL, the adapter or the id can't be used.
    """
    require_session_id(session_id)
    spec = AdapterSpec(adapter_spec) if isinstance(adapter_spec, str) else adapter_spec
    store, adapter = opened(store_url, spec)
    clock = clock or Clock()
    settler = Settler(store, adapter, policy, None, stop, clock, None, Breaker(clock))
    settled = settler.settle(Found(session_id, is_marked=True, is_final=False))
    assert settled is not None  # only of a session without a marker there may be nothing to say
    return _outcome(settled.result, store, clock, policy)


def _outcome(result: SweepResult, store: ArtifactStore, clock: Clock, policy: RunPolicy) -> Outcome:
    said = result.report.error if result.report else result.error
    again_at = next_look(result, now=clock.now(), policy=policy)
    if result.status is None and not result.error:
        said = result.note
        # A store that can't be reached does not say that it is gone.
        with contextlib.suppress(StoreError):
            if again_at and store.head(open_key(result.session_id)) is None:
                said, again_at = "there is no such session", None
    return Outcome(result.session_id, result.status, result.block_reason, said, again_at)


class Opened(NamedTuple):
    """What an item names: its store and its adapter. The threads of a process share them."""

    store: ArtifactStore
    adapter: Adapter


_lock = threading.Lock()
_cache: dict[tuple[str, str], Opened] = {}
_closing = contextlib.ExitStack()
# Of parents of this process. They are kept as they are: to close one would be seen in the parent.
_inherited: list[object] = []


def opened(store_url: str, spec: AdapterSpec) -> Opened:
    """Return what an item names, opened once in this process.

    Raises:
        InvalidInput: The URL or the adapter can't be used.
    """
    key = (store_url, _as_text(spec))
    with _lock:
        if key not in _cache:
            store, adapter = open_store(store_url), open_adapter(spec.name, spec.settings)
            if isinstance(adapter, contextlib.AbstractContextManager):
                _closing.enter_context(adapter)
            _cache[key] = Opened(store, adapter)
        return _cache[key]


def _as_text(spec: AdapterSpec) -> str:
    try:
        return json.dumps([spec.name, dict(spec.settings)], sort_keys=True)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"adapter {spec.name!r}: its settings must be JSON, to cross a process") from error


def _close() -> None:
    _closing.close()


def _forget() -> None:
    """Begin anew in a forked child: connections are the parent's, and the lock may be held."""
    global _lock, _closing
    _inherited.extend((_closing, dict(_cache)))
    _lock, _closing = threading.Lock(), contextlib.ExitStack()
    _cache.clear()


atexit.register(_close)
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_forget)
