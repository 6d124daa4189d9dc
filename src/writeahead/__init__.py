"""A write-ahead log for side effects on systems you don't own.

Three ways in, each usable without the next: the store alone (`open_store`); your own orchestrator and
pydantic models with the three artifact functions; everything (`write_back`, `resume_session`).
Errors are in `writeahead.errors`, the values in `writeahead.model`.
"""

from writeahead.adapters.base import Adapter, emits
from writeahead.artifacts import (
    ReplayArtifact,
    load_replay_artifact,
    write_planned_writeback_artifact,
    write_writeback_artifact,
)
from writeahead.errors import ResumeError, WriteaheadError
from writeahead.model import Operation, PlannedOperation, Receipt, RunPolicy, RunReport
from writeahead.runner import resume_session, write_back
from writeahead.stores.base import ArtifactStore
from writeahead.stores.registry import open_store

__all__ = [
    "Adapter",
    "ArtifactStore",
    "Operation",
    "PlannedOperation",
    "Receipt",
    "ReplayArtifact",
    "ResumeError",
    "RunPolicy",
    "RunReport",
    "WriteaheadError",
    "emits",
    "load_replay_artifact",
    "open_store",
    "resume_session",
    "write_back",
    "write_planned_writeback_artifact",
    "write_writeback_artifact",
]
