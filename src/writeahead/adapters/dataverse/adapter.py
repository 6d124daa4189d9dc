"""The kinds of operation on Dataverse, each proved harmless to replay by a conditional PATCH.

A row is created under a GUID of ours with ``If-None-Match: *``, and updated with ``If-Match`` and
the version that planning saw. Both answer 412 where that does not hold ("Perform conditional
operations using the Web API", learn.microsoft.com). There are kinds for rows of any table that the
mapping declares, and named ones in an outbound-call service's words, which are mapped onto them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import httpx

from writeahead.adapters.base import TransactionalAdapter, emits, target_of
from writeahead.adapters.dataverse.change_set import emit_change_set
from writeahead.adapters.dataverse.change_set_items import ChangeSetItem, require_change_set
from writeahead.adapters.dataverse.diagnosis import diagnose, probed_table
from writeahead.adapters.dataverse.find_by import receipt_of_existing
from writeahead.adapters.dataverse.loaded import read_baseline
from writeahead.adapters.dataverse.mapping.mapping import TableMapping
from writeahead.adapters.dataverse.mapping.mapping_file import load_mapping
from writeahead.adapters.dataverse.mapping.payloads import (
    PhoneCallActivity,
    QueueStatusUpdate,
    RowWrite,
    Task,
)
from writeahead.adapters.dataverse.mapping.plans import (
    planned_write,
)
from writeahead.adapters.dataverse.mapping.row_baseline import RowBaseline
from writeahead.adapters.dataverse.mapping.row_payloads import (
    CompleteActivity,
    CreateRow,
    UpdateRow,
    UpsertRow,
)
from writeahead.adapters.dataverse.mapping.translate import (
    completion,
    with_owner,
    with_targets,
)
from writeahead.adapters.dataverse.planning import (
    bare_item_of,
    item_of,
    plan_named,
    plan_offline,
    plan_online,
    plan_row,
)
from writeahead.adapters.dataverse.readiness.discover import discover
from writeahead.adapters.dataverse.readiness.findings import Finding, Level
from writeahead.adapters.dataverse.readiness.gate import ReadinessGate
from writeahead.adapters.dataverse.rows import create_row, update_row, upsert_row
from writeahead.adapters.dataverse.webapi.auth import ClientCredentials
from writeahead.adapters.dataverse.webapi.client import DEFAULT_TIMEOUT, DataverseClient
from writeahead.adapters.dataverse.webapi.credentials import TokenSource
from writeahead.adapters.dataverse.webapi.names import Scalar, environment_of
from writeahead.adapters.dataverse.webapi.protection import Protection
from writeahead.errors import NotReady
from writeahead.model import KeyedOperation, PlannedOperation, Receipt, ReplayClass, idempotency_key

__all__ = ["DataverseAdapter"]

_CREATE, _UPDATE = ReplayClass.CREATE_WITH_KEY, ReplayClass.CONDITIONAL_UPDATE
# The kinds that create a row, and the field of the payload that names its table, if it is not the
# kind's.
_CREATES = {"phone_call_activity": None, "task": None, "create_row": "table"}


# A message operation, plug-ins included, must end within 2 minutes ("Optimize performance for bulk
# operations", learn.microsoft.com); a minute on top for queues and gateways on the way.
_LONGEST_REQUEST = timedelta(minutes=3)


def _utc_now() -> datetime:
    return datetime.now(UTC)


class DataverseAdapter(TransactionalAdapter):
    """Writes rows into one Dataverse environment: phone calls, tasks, queue rows, declared tables.

    Safe to share between threads, and to use after a fork. Close it, or use it as a context
    manager.

    Args:
        url: The environment, ``https://org.crm.dynamics.com``. None if it is not known: planning
            says so.
        token: Returns a bearer token, or is a credential of the Azure SDK, as for
            `DataverseClient`; None as for ``url``.
        mapping: The mapping file, or one that was loaded; None for the default one.
        timeout: Seconds, as for `DataverseClient`.
        transport: Replaces the network; for tests.
        protection: As for `DataverseClient`.
        readiness: ``full``: planning holds every write against the environment's own table
            definitions and looks up owners, at the cost of some reads in each 5 minutes; ``off``:
            it does not.
        require_approval: Whether the mapping must be approved before anything is written by it,
            also where its file does not ask for that.
        service_text: As for `DataverseClient`.
        missing: Problems of the configuration; planning reports them all at once.
        now: The time, timezone-aware; for tests.

    Raises:
        InvalidInput: The URL or the mapping can't be used.
    """

    name = "dataverse"

    request_lifetime = _LONGEST_REQUEST.total_seconds()
    thread_safe = True

    def __init__(
        self,
        url: str | None,
        token: TokenSource | None,
        *,
        mapping: TableMapping | str | Path | None = None,
        timeout: float | httpx.Timeout = DEFAULT_TIMEOUT,
        transport: httpx.BaseTransport | None = None,
        protection: Protection | None = None,
        readiness: Literal["full", "off"] = "full",
        require_approval: bool = False,
        service_text: bool = False,
        missing: Sequence[str] = (),
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._mapping = mapping if isinstance(mapping, TableMapping) else load_mapping(mapping)
        self._missing = tuple(missing)
        required = require_approval or self._mapping.approval.required
        self._unapproved = self._mapping.approval.problem(self._mapping.name) if required else None
        self._now = now
        self._client: DataverseClient | None = None
        self._target: str | None = None
        if url is not None and token is not None:
            self._client = DataverseClient(
                url,
                token,
                timeout=timeout,
                transport=transport,
                protection=protection,
                service_text=service_text,
            )
            account = token.account if isinstance(token, ClientCredentials) else ()
            self._target = target_of(environment_of(url), *account)
        self._gate: ReadinessGate | None = None
        if self._client is not None and readiness == "full":
            self._gate = ReadinessGate(self._client, self._mapping)

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

    def target(self) -> str | None:
        """The environment and, with client credentials, the tenant and the application.

        A new secret, another authority and another spelling of the URL leave it as it is. Other
        sources of tokens do not say whose tokens they give, so there it is the environment alone.

        Raises:
            NotReady: The URL or the credentials are missing.
        """
        self._ready()
        return self._target

    def discover(self, kinds: Mapping[str, str], tables: Sequence[str]) -> str:
        """Write a mapping from the environment's definitions. Args and raises: as `discover`."""
        return discover(self._ready(), kinds, tables)

    def doctor(self, probed: str | None = None) -> Iterator[Finding]:
        """Look at everything that a first run would meet, without writing.

        Args:
            probed: What the mapping calls a table, ``tables.account`` or ``kinds.task``, on which a
                row is made, changed and removed to prove the conditional requests.

        Yields:
            Findings, while they are made. Missing settings are findings, too.

        Raises:
            InvalidInput: The mapping has no such table.
        """
        table = probed_table(self._mapping, probed)
        if self._client is None or self._missing:
            for missing in self._missing or ("neither URL nor credentials were given",):
                yield Finding("settings", Level.PROBLEM, missing)
            return
        known = [Finding("approval", Level.PROBLEM, self._unapproved)] if self._unapproved else []
        yield from diagnose(self._client, self._mapping, table, known)

    def preview(self, operations: Sequence[KeyedOperation]) -> list[PlannedOperation]:
        """Plan for a dry run; without settings for requests, as much as can be planned offline.

        What was not checked then is a warning of each operation. Raises: as `plan`.
        """
        if self._client is not None and not self._missing:
            planned = self._planned(operations)
        else:
            planned = plan_offline(self._mapping, super().plan(with_targets(operations, _CREATES)))
        if self._unapproved is None or not planned:
            return planned
        first, *rest = planned
        return [first.model_copy(update={"warnings": (*first.warnings, self._unapproved)}), *rest]

    def read_baseline(
        self, name: str, row: str | Mapping[str, Scalar], columns: Sequence[str] | None = None
    ) -> RowBaseline | None:
        """Read what a row is like when it is loaded, for ``Operation(..., baseline=...)`` later on.

        Args:
            name: A kind (``queue_status_update``), or what the mapping calls a table (``contact``);
                ``kinds.task`` or ``tables.task`` where both are there.
            row: Its GUID, or the columns of an alternate key with their values.
            columns: What may be written later; None for all that the mapping lets be written. The
                columns that are watched are read in any case.

        Returns:
            The version and the columns, from one request; None if the row is not there.

        Raises:
            InvalidInput: The mapping does not know the table, the key or a column.
            NotReady: Credentials are missing or were refused.
            TransientDataverseError, PermanentDataverseError: It could not be read.
        """
        return read_baseline(self._ready(), self._mapping, name, row, columns)

    def plan(self, operations: Sequence[KeyedOperation]) -> list[PlannedOperation]:
        """Translate all operations, get a token, and read the baselines of the rows to update.

        Raises:
            InvalidInput: An unknown kind, a payload of the wrong shape, or a field that is not
                mapped.
            NotReady: Credentials are missing or refused, the mapping is not approved and must be,
                the environment can't take a write, or rows to update are missing; all gaps of a
                kind at once.
            ConflictError: Rows are not as the callers' baselines say.
            TransientDataverseError: The service could not be read now.
        """
        self._require_approval()
        return self._planned(operations)

    def _planned(self, operations: Sequence[KeyedOperation]) -> list[PlannedOperation]:
        planned = super().plan(with_targets(operations, _CREATES))
        return plan_online(self._ready(), self._mapping, self._gate, planned, self._now())

    def plan_phone_call_activity(
        self, payload: PhoneCallActivity, operation: KeyedOperation
    ) -> PlannedOperation:
        """Translate a phone call."""
        return plan_named(self._mapping, payload, operation, row_id=operation.key, replay=_CREATE)

    def plan_task(self, payload: Task, operation: KeyedOperation) -> PlannedOperation:
        """Translate a task."""
        return plan_named(self._mapping, payload, operation, row_id=operation.key, replay=_CREATE)

    def plan_queue_status_update(
        self, payload: QueueStatusUpdate, operation: KeyedOperation, baseline: RowBaseline | None = None
    ) -> PlannedOperation:
        """Translate the update of a queue row; `plan` adds its baseline."""
        row_id = payload.row_id
        return plan_named(self._mapping, payload, operation, row_id=row_id, replay=_UPDATE, loaded=baseline)

    def plan_create_row(self, payload: CreateRow, operation: KeyedOperation) -> PlannedOperation:
        """Translate a new row; it belongs to the mapping's default owner if none is named."""
        return plan_row(
            self._mapping,
            payload.table,
            with_owner(self._mapping, operation, payload),
            operation,
            row=operation.key,
            replay=_CREATE,
            parties=payload.parties,
        )

    def plan_update_row(
        self, payload: UpdateRow, operation: KeyedOperation, baseline: RowBaseline | None = None
    ) -> PlannedOperation:
        """Translate the update of a row; `plan` adds its baseline."""
        row = payload.row_id or payload.key or idempotency_key(operation.session_id, payload.operation or "")
        return plan_row(
            self._mapping,
            payload.table,
            payload.columns,
            operation,
            row=row,
            replay=_UPDATE,
            loaded=baseline,
        )

    def plan_upsert_row(
        self, payload: UpsertRow, operation: KeyedOperation, baseline: RowBaseline | None = None
    ) -> PlannedOperation:
        """Translate an upsert; `plan` adds its baseline if the table watches anything.

        With one from the caller, who has seen the row, it is an update of that row.
        """
        return plan_row(
            self._mapping,
            payload.table,
            payload.columns,
            operation,
            row=payload.row_id or payload.key or {},
            replay=ReplayClass.UPSERT,
            loaded=baseline,
        )

    def plan_complete_activity(
        self, payload: CompleteActivity, operation: KeyedOperation, baseline: RowBaseline | None = None
    ) -> PlannedOperation:
        """Translate a completion into an update; `plan` adds its baseline."""
        write = completion(self._mapping, operation, payload)
        return planned_write(operation, write, _UPDATE, loaded=baseline)

    @emits(_CREATE)
    def emit_phone_call_activity(self, payload: RowWrite, operation: PlannedOperation) -> Receipt:
        """Create the phone call. Raises: as `create_row`; InvalidInput if not in the mapping."""
        return self._create(payload, operation)

    @emits(_CREATE)
    def emit_task(self, payload: RowWrite, operation: PlannedOperation) -> Receipt:
        """Create the task. Raises: as `create_row`; InvalidInput if not in the mapping."""
        return self._create(payload, operation)

    @emits(_CREATE)
    def emit_create_row(self, payload: RowWrite, operation: PlannedOperation) -> Receipt:
        """Create the row. Raises: as `create_row`; InvalidInput if not in the mapping."""
        return self._create(payload, operation)

    @emits(_UPDATE)
    def emit_queue_status_update(self, payload: RowWrite, operation: PlannedOperation) -> Receipt:
        """Update the queue row. Raises: as `update_row`; InvalidInput if not in the mapping."""
        return self._update(payload, operation)

    @emits(_UPDATE)
    def emit_update_row(self, payload: RowWrite, operation: PlannedOperation) -> Receipt:
        """Update the row. Raises: as `update_row`; InvalidInput if not in the mapping."""
        return self._update(payload, operation)

    @emits(_UPDATE)
    def emit_complete_activity(self, payload: RowWrite, operation: PlannedOperation) -> Receipt:
        """Close the activity. Raises: as `update_row`; InvalidInput if not in the mapping."""
        return self._update(payload, operation)

    # A PATCH without If-Match is written whenever it arrives: "Perform conditional operations using
    # the Web API", learn.microsoft.com.
    @emits(ReplayClass.UPSERT, settles_after=_LONGEST_REQUEST)
    def emit_upsert_row(self, payload: RowWrite, operation: PlannedOperation) -> Receipt:
        """Upsert the row. Raises: as `upsert_row`; InvalidInput if not in the mapping."""
        item = self._together(operation)
        return upsert_row(self._ready(), item.table, payload, item.baseline)

    def require_transaction(self, operations: Sequence[PlannedOperation]) -> None:
        """Refuse what one change set can't hold. Raises: as `require_change_set`.

        Neither approval nor baselines matter here: a dry run may have none.
        """
        require_change_set(
            [bare_item_of(self._mapping, self.payload_of(operation), operation) for operation in operations]
        )

    def transact(self, operations: Sequence[PlannedOperation]) -> list[Receipt]:
        """Write all rows in one ``$batch`` change set. Raises: as `emit_change_set` and `emit`."""
        client = self._ready()
        items = [self._together(operation) for operation in operations]
        require_change_set(items)
        # Where every column is preserved there is nothing to write, but the row must still be as it
        # was.
        receipts = {
            item.operation: update_row(client, item.table, item.write, item.baseline)
            for item in items
            if item.baseline is not None and not item.writes
        }
        # A row that was there already counts as created, and is no part of the change set.
        for item in items:
            if item.replay is _CREATE:
                existing = receipt_of_existing(client, item.table, item.write, item.baseline)
                receipts |= {item.operation: existing} if existing else {}
        rest = [item for item in items if item.operation not in receipts]
        if rest:
            written = zip(rest, emit_change_set(client, rest), strict=True)
            receipts |= {item.operation: receipt for item, receipt in written}
        return [receipts[item.operation] for item in items]

    def row_of(self, operation: PlannedOperation) -> str | None:
        """The table and the GUID; an alternate key may name the row of a GUID, too.

        A create whose row was found is about that row, as are the operations after it.
        """
        row_id = (operation.precondition or {}).get("found") or operation.payload.get("row_id")
        return f"{operation.payload.get('entity_set')}({row_id.lower()})" if isinstance(row_id, str) else None

    def _require_approval(self) -> None:
        if self._unapproved is not None:
            raise NotReady(self._unapproved)

    def _together(self, operation: PlannedOperation) -> ChangeSetItem:
        # Here, too: a resume does not plan.
        self._require_approval()
        write = self.payload_of(operation)
        assert isinstance(write, RowWrite)
        return item_of(self._mapping, write, operation)

    def _create(self, write: RowWrite, operation: PlannedOperation) -> Receipt:
        item, client = self._together(operation), self._ready()
        existing = receipt_of_existing(client, item.table, write, item.baseline)
        return existing or create_row(client, item.table, write, item.baseline)

    def _update(self, write: RowWrite, operation: PlannedOperation) -> Receipt:
        item = self._together(operation)
        assert item.baseline is not None
        return update_row(self._ready(), item.table, write, item.baseline)

    def _ready(self) -> DataverseClient:
        if self._missing or self._client is None:
            raise NotReady(*(self._missing or ("Dataverse: neither URL nor credentials were given",)))
        return self._client
