"""Three kinds of operation on Dataverse, each proved harmless to replay by a conditional PATCH.

A phone call and a task are created under a GUID of ours with ``If-None-Match: *``; a queue row is updated
with ``If-Match`` and the version that planning saw. Both answer 412 where that does not hold ("Perform
conditional operations using the Web API", learn.microsoft.com).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
from pydantic import BaseModel

from writeahead._validation import Invalid, validated
from writeahead.adapters.base import TransactionalAdapter, emits
from writeahead.adapters.dataverse.change_set import TogetherItem, emit_together
from writeahead.adapters.dataverse.client import DEFAULT_TIMEOUT, DataverseClient
from writeahead.adapters.dataverse.credentials import TokenSource
from writeahead.adapters.dataverse.discover import discover
from writeahead.adapters.dataverse.mapping import Table, TableMapping
from writeahead.adapters.dataverse.mapping_file import load_mapping
from writeahead.adapters.dataverse.names import ETAG
from writeahead.adapters.dataverse.payloads import (
    Baseline,
    PhoneCallActivity,
    QueueStatusUpdate,
    RowWrite,
    Task,
)
from writeahead.adapters.dataverse.protection import Protection
from writeahead.adapters.dataverse.rows import create_row, read_baselines, update_row
from writeahead.errors import InvalidInput, NotReady
from writeahead.model import KeyedOperation, PlannedOperation, Receipt, ReplayClass

__all__ = ["DataverseAdapter"]


class DataverseAdapter(TransactionalAdapter):
    """Writes phone calls, tasks and the status of queue rows into one Dataverse environment.

    Safe to share between threads, and to use after a fork. Close it, or use it as a context manager.

    Args:
        url: The environment, ``https://org.crm.dynamics.com``. None if it is not known: planning says so.
        token: Returns a bearer token, or is a credential of the Azure SDK, as for `DataverseClient`; None as
            for ``url``.
        mapping: The mapping file, or one that was loaded; None for the default one.
        timeout: Seconds, as for `DataverseClient`.
        transport: Replaces the network; for tests.
        protection: As for `DataverseClient`.
        missing: Problems of the configuration, found by whoever made it; planning reports them all at once.

    Raises:
        InvalidInput: The URL or the mapping can't be used.
    """

    name = "dataverse"

    # A message operation, plug-ins included, must end within 2 minutes ("Optimize performance for bulk
    # operations", learn.microsoft.com); a minute on top for queues and gateways on the way.
    request_lifetime = 180.0

    def __init__(
        self,
        url: str | None,
        token: TokenSource | None,
        *,
        mapping: TableMapping | str | Path | None = None,
        timeout: float | httpx.Timeout = DEFAULT_TIMEOUT,
        transport: httpx.BaseTransport | None = None,
        protection: Protection | None = None,
        missing: Sequence[str] = (),
    ) -> None:
        self._mapping = mapping if isinstance(mapping, TableMapping) else load_mapping(mapping)
        self._missing = tuple(missing)
        self._client: DataverseClient | None = None
        if url is not None and token is not None:
            self._client = DataverseClient(
                url, token, timeout=timeout, transport=transport, protection=protection
            )

    def __repr__(self) -> str:
        return f"{type(self).__name__}(mapping={self._mapping.name!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            self._client.close()

    def discover(self, kinds: Mapping[str, str], tables: Sequence[str]) -> str:
        """Write a mapping from the environment's own definitions. Args, returns and raises: as `discover`."""
        return discover(self._ready(), kinds, tables)

    def plan(self, operations: Sequence[KeyedOperation]) -> list[PlannedOperation]:
        """Translate all operations by the mapping, get a token, and read the baselines of the rows to update.

        Raises:
            InvalidInput: An unknown kind, a payload of the wrong shape, or a field that is not mapped.
            NotReady: Credentials are missing or refused, or rows to update are missing; all of them at once.
            TransientDataverseError: The service could not be read now.
        """
        planned = super().plan(operations)
        client = self._ready()
        client.sign_in()
        updates = [item for item in planned if item.replay is ReplayClass.CONDITIONAL_UPDATE]
        writes = [(self._mapping.kinds[item.kind], RowWrite.model_validate(item.payload)) for item in updates]
        baselines = dict(
            zip((item.id for item in updates), read_baselines(client, writes), strict=True),
        )
        return [
            item.model_copy(update={"precondition": baselines[item.id].model_dump(mode="json")})
            if item.id in baselines
            else item
            for item in planned
        ]

    def plan_phone_call_activity(
        self, payload: PhoneCallActivity, operation: KeyedOperation
    ) -> PlannedOperation:
        """Translate a phone call."""
        return self._plan_write(payload, operation, operation.key, ReplayClass.CREATE_WITH_KEY)

    def plan_task(self, payload: Task, operation: KeyedOperation) -> PlannedOperation:
        """Translate a task."""
        return self._plan_write(payload, operation, operation.key, ReplayClass.CREATE_WITH_KEY)

    def plan_queue_status_update(
        self, payload: QueueStatusUpdate, operation: KeyedOperation
    ) -> PlannedOperation:
        """Translate the update of a queue row; `plan` adds its baseline."""
        return self._plan_write(payload, operation, payload.row_id, ReplayClass.CONDITIONAL_UPDATE)

    @emits(ReplayClass.CREATE_WITH_KEY)
    def emit_phone_call_activity(self, payload: RowWrite, operation: PlannedOperation) -> Receipt:
        """Create the phone call. Raises: as `create_row`; InvalidInput if the mapping does not approve it."""
        return self._create(payload, operation)

    @emits(ReplayClass.CREATE_WITH_KEY)
    def emit_task(self, payload: RowWrite, operation: PlannedOperation) -> Receipt:
        """Create the task. Raises: as `create_row`; InvalidInput if the mapping does not approve it."""
        return self._create(payload, operation)

    @emits(ReplayClass.CONDITIONAL_UPDATE)
    def emit_queue_status_update(self, payload: RowWrite, operation: PlannedOperation) -> Receipt:
        """Update the queue row. Raises: as `update_row`; InvalidInput if the mapping does not approve it."""
        table = self._approved(payload, operation)
        return update_row(self._ready(), table, payload, _baseline(operation, table))

    def transact(self, operations: Sequence[PlannedOperation]) -> list[Receipt]:
        """Write all rows in one ``$batch`` change set. Raises: as `emit_together`, and as `emit`."""
        return emit_together(self._ready(), [self._together(operation) for operation in operations])

    def _together(self, operation: PlannedOperation) -> TogetherItem:
        write = self.payload_of(operation)
        assert isinstance(write, RowWrite)
        table = self._approved(write, operation)
        if operation.replay is ReplayClass.CONDITIONAL_UPDATE:
            return TogetherItem(table, write, _baseline(operation, table), operation.replay)
        if operation.replay is ReplayClass.CREATE_WITH_KEY and write.row_id != operation.key:
            raise _unfit(operation, "row_id is not the operation's key")
        return TogetherItem(table, write, None, operation.replay)

    def _create(self, write: RowWrite, operation: PlannedOperation) -> Receipt:
        table = self._approved(write, operation)
        if write.row_id != operation.key:
            raise _unfit(operation, "row_id is not the operation's key")
        return create_row(self._ready(), table, write)

    def _plan_write(
        self, payload: BaseModel, operation: KeyedOperation, row_id: str, replay: ReplayClass
    ) -> PlannedOperation:
        write = self._mapping.write(operation, row_id, payload)
        return PlannedOperation(
            id=operation.id,
            kind=operation.kind,
            key=operation.key,
            payload=write.model_dump(mode="json"),
            replay=replay,
        )

    def _approved(self, write: RowWrite, operation: PlannedOperation) -> Table:
        """Check what came out of an artifact as if it came from a stranger."""
        table = self._mapping.table(operation.kind, operation.id)
        problem = table.problem_of(write)
        if problem:
            raise _unfit(operation, f"{problem} by mapping {self._mapping.name}")
        return table

    def _ready(self) -> DataverseClient:
        if self._missing or self._client is None:
            raise NotReady(*(self._missing or ("Dataverse: neither URL nor credentials were given",)))
        return self._client


def _baseline(operation: PlannedOperation, table: Table) -> Baseline:
    baseline = validated(lambda: Baseline.model_validate(operation.precondition))
    if isinstance(baseline, Invalid):
        raise _unfit(operation, "the precondition is no baseline")
    if not ETAG.fullmatch(baseline.etag):
        raise _unfit(operation, "the precondition holds no ETag")
    if set(baseline.guarded) != set(table.baseline_columns()):
        raise _unfit(operation, "the precondition guards other columns than the mapping")
    return baseline


def _unfit(operation: PlannedOperation, problem: str) -> InvalidInput:
    return InvalidInput(f"operation {operation.id}: the plan can't be carried out: {problem}")
