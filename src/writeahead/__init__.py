"""A write-ahead log for side effects on systems you don't own.

Three ways in, each usable without the next: the store alone (`open_store`); your own orchestrator
and pydantic models with the three artifact functions; everything (`write_back`, `resume_session`).
`awrite_back` and its like are for asyncio.
Errors are in `writeahead.errors`, the values in `writeahead.model`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from writeahead.adapters.base import Adapter, emits
    from writeahead.aio import aresume_session, asweep, awrite_back
    from writeahead.errors import ResumeError, WriteaheadError
    from writeahead.items import resume_item
    from writeahead.model import Operation, PlannedOperation, Receipt, RunReport
    from writeahead.policy import RunPolicy
    from writeahead.protocol.artifacts import (
        ReplayArtifact,
        load_replay_artifact,
        write_planned_writeback_artifact,
        write_writeback_artifact,
    )
    from writeahead.protocol.finding import find_sessions
    from writeahead.protocol.pruning import prune
    from writeahead.protocol.resuming import resume_session
    from writeahead.protocol.retry import Clock
    from writeahead.protocol.runner import write_back
    from writeahead.protocol.sweep import sweep
    from writeahead.protocol.unblocking import abandon_session, unblock_session
    from writeahead.report.session import Session, read_session
    from writeahead.stores.base import ArtifactStore
    from writeahead.stores.registry import open_store

__all__ = [
    "Adapter",
    "ArtifactStore",
    "Clock",
    "Operation",
    "PlannedOperation",
    "Receipt",
    "ReplayArtifact",
    "ResumeError",
    "RunPolicy",
    "RunReport",
    "Session",
    "WriteaheadError",
    "abandon_session",
    "aresume_session",
    "asweep",
    "awrite_back",
    "emits",
    "find_sessions",
    "load_replay_artifact",
    "open_store",
    "prune",
    "read_session",
    "resume_item",
    "resume_session",
    "sweep",
    "unblock_session",
    "write_back",
    "write_planned_writeback_artifact",
    "write_writeback_artifact",
]

# The one place that has it: hatchling reads it for the package's metadata. See docs/versions.md.
__version__ = "0.1.0"

# Loaded at first use (PEP 562): `writeahead --version` and a program that only needs a store should
# not wait for pydantic. A test holds this table to the imports above.
_HOMES = {
    "Adapter": "adapters.base",
    "ArtifactStore": "stores.base",
    "Clock": "protocol.retry",
    "Operation": "model",
    "PlannedOperation": "model",
    "Receipt": "model",
    "ReplayArtifact": "protocol.artifacts",
    "ResumeError": "errors",
    "RunPolicy": "policy",
    "RunReport": "model",
    "Session": "report.session",
    "WriteaheadError": "errors",
    "abandon_session": "protocol.unblocking",
    "aresume_session": "aio",
    "asweep": "aio",
    "awrite_back": "aio",
    "emits": "adapters.base",
    "find_sessions": "protocol.finding",
    "load_replay_artifact": "protocol.artifacts",
    "open_store": "stores.registry",
    "prune": "protocol.pruning",
    "read_session": "report.session",
    "resume_item": "items",
    "resume_session": "protocol.resuming",
    "sweep": "protocol.sweep",
    "unblock_session": "protocol.unblocking",
    "write_back": "protocol.runner",
    "write_planned_writeback_artifact": "protocol.artifacts",
    "write_writeback_artifact": "protocol.artifacts",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
