"""From what a mapping makes of the operations of a session to what will be issued, and back.

A plan is made in stages: drafts of the writes, the owners of rows they point to, the readiness
gate, rows that are there already, baselines, and last the warnings. It comes back from an artifact,
which may have been tampered with, so each write is held against the mapping again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from pydantic import BaseModel

from writeahead.adapters.dataverse.baselines import with_baselines
from writeahead.adapters.dataverse.change_set import ChangeSetItem
from writeahead.adapters.dataverse.find_by import with_existing
from writeahead.adapters.dataverse.mapping.elastic import elastic_problem, replacement_warnings
from writeahead.adapters.dataverse.mapping.free_texts import text_limits
from writeahead.adapters.dataverse.mapping.mapping import TableMapping
from writeahead.adapters.dataverse.mapping.owner_from import owner_row
from writeahead.adapters.dataverse.mapping.payloads import RowWrite
from writeahead.adapters.dataverse.mapping.plans import (
    Draft,
    baseline_of,
    noted,
    plan_refusal,
    planned_write,
    require_complete,
    warnings_problem,
)
from writeahead.adapters.dataverse.mapping.row_baseline import RowBaseline, require_known
from writeahead.adapters.dataverse.mapping.row_payloads import RowParty, RowReference
from writeahead.adapters.dataverse.mapping.shorten import shortened
from writeahead.adapters.dataverse.mapping.tables import Table
from writeahead.adapters.dataverse.mapping.translate import (
    missing_numbers,
    phone_warnings,
    row_write,
    table_of,
    unmapped,
)
from writeahead.adapters.dataverse.readiness.gate import ReadinessGate
from writeahead.adapters.dataverse.row_owners import with_row_owners
from writeahead.adapters.dataverse.webapi.client import DataverseClient
from writeahead.adapters.dataverse.webapi.names import Scalar
from writeahead.errors import InvalidInput
from writeahead.model import KeyedOperation, PlannedOperation, ReplayClass

__all__ = ["item_of", "plan_named", "plan_offline", "plan_online", "plan_row"]


def plan_named(
    mapping: TableMapping,
    payload: BaseModel,
    operation: KeyedOperation,
    *,
    row_id: str,
    replay: ReplayClass,
    loaded: RowBaseline | None = None,
) -> PlannedOperation:
    """Translate an operation of a named kind.

    Args:
        mapping: What may be written.
        payload: The caller's.
        operation: The operation.
        row_id: The row to write.
        replay: How a replay is proved harmless.
        loaded: What the row was like when the caller loaded it.

    Raises:
        InvalidInput: A field or label that is used is not mapped.
    """
    write = mapping.write(operation, row_id, payload)
    phones = {"phone_number": getattr(payload, "phone_number", None)}
    left_out = mapping.left_out(operation.kind, operation.id, payload)
    warnings = (*_left_out(left_out), *phone_warnings(phones))
    return planned_write(operation, write, replay, warnings, loaded)


def plan_row(
    mapping: TableMapping,
    name: str,
    columns: Mapping[str, RowReference | Scalar],
    operation: KeyedOperation,
    *,
    row: str | Mapping[str, Scalar],
    replay: ReplayClass,
    loaded: RowBaseline | None = None,
    parties: Sequence[RowParty] = (),
) -> PlannedOperation:
    """Translate an operation on a declared table.

    Args:
        mapping: What may be written.
        name: What it calls the table.
        columns: Columns and lookups.
        operation: The operation.
        row: The row's GUID, or the columns of an alternate key with their values.
        replay: How a replay is proved harmless.
        loaded: What the row was like when the caller loaded it.
        parties: Of a new activity.

    Raises:
        InvalidInput: As `row_write`.
    """
    write = row_write(mapping, operation, name, columns, row, parties=parties)
    table = mapping.declared(name, operation.id)
    warnings = (
        *_left_out(unmapped(mapping, operation, name, columns)),
        *phone_warnings({key: columns[key] for key in table.phones if key in columns}),
        *replacement_warnings(table),
    )
    return planned_write(operation, write, replay, warnings, loaded)


def plan_online(
    client: DataverseClient,
    mapping: TableMapping,
    gate: ReadinessGate | None,
    planned: Sequence[PlannedOperation],
    now: datetime,
) -> list[PlannedOperation]:
    """Hold translated operations against the environment, and read the rows that they are about.

    Args:
        client: Of the environment.
        mapping: What may be written.
        gate: None with readiness off.
        planned: The operations, translated.
        now: The time; timezone-aware.

    Raises:
        NotReady: The token is refused, the environment can't take a write, or rows to update are
            missing; all gaps of a kind at once.
        InvalidInput: A baseline of the caller's can't be used.
        ConflictError: Rows are not as the callers' baselines say.
        TransientDataverseError: The service could not be read now.
    """
    if gate is not None:
        drafts = [_draft(mapping, item) for item in planned]
    else:
        # What a payload lacks is for the gate to tell. An owner that can't be read is not.
        drafts = [replace(_undefined(mapping, item), gaps=()) for item in planned]
    client.sign_in()
    drafts = with_row_owners(client, mapping, drafts)
    if gate is not None:
        drafts = gate.check(drafts)
    else:
        require_complete(drafts)
    drafts = with_baselines(client, with_existing(client, drafts), now)
    if gate is not None:
        gate.check_creates(drafts)
    return [
        item.model_copy(
            update={
                "payload": draft.write.model_dump(mode="json"),
                "precondition": draft.baseline.model_dump(mode="json") if draft.baseline else None,
                "warnings": draft.warnings,
            }
        )
        for item, draft in zip(planned, map(noted, drafts), strict=True)
    ]


def plan_offline(mapping: TableMapping, planned: Sequence[PlannedOperation]) -> list[PlannedOperation]:
    """Plan without a request; what was not checked is a warning of each operation.

    Raises:
        NotReady: A payload lacks something.
        InvalidInput: A baseline of the caller's can't be used.
    """
    drafts = [_undefined(mapping, item) for item in planned]
    require_complete(drafts)
    return [
        item.model_copy(
            update={
                "payload": draft.write.model_dump(mode="json"),
                "warnings": (*draft.warnings, *draft.stored_warnings(), _unchecked(draft)),
            }
        )
        for item, draft in zip(planned, drafts, strict=True)
    ]


def item_of(mapping: TableMapping, write: RowWrite, operation: PlannedOperation) -> ChangeSetItem:
    """Return a planned write with its table and its baseline, as it may be sent.

    Raises:
        InvalidInput: The plan is none that this mapping approves. Nothing was sent.
    """
    table = _approved(mapping, write, operation)
    if operation.replay is ReplayClass.CREATE_WITH_KEY and write.row_id != operation.key:
        raise plan_refusal(operation, "row_id is not the operation's key")
    if operation.replay is not ReplayClass.CREATE_WITH_KEY and write.parties:
        raise plan_refusal(operation, "only a create has parties")
    baseline = baseline_of(operation, table, write)
    watched = baseline if baseline is not None and baseline.watches else None
    stored = baseline.stored if baseline is not None else {}
    return ChangeSetItem(operation.id, table, write, watched, operation.replay, stored)


def _draft(mapping: TableMapping, item: PlannedOperation) -> Draft:
    write = RowWrite.model_validate(item.payload)
    table = _approved(mapping, write, item)
    return Draft(
        item.id,
        table,
        write,
        item.replay,
        warnings=item.warnings,
        gaps=missing_numbers(item.kind, table, write),
        loaded=_loaded(mapping, item, write),
        section=write.table or f"kinds.{item.kind}",
    )


def _undefined(mapping: TableMapping, item: PlannedOperation) -> Draft:
    """A draft that is held against no definitions: texts have the lengths of their fields."""
    draft = _draft(mapping, item)
    return shortened(draft, text_limits(item.kind, draft.table))


def _loaded(mapping: TableMapping, item: PlannedOperation, write: RowWrite) -> RowBaseline | None:
    if item.precondition is None:
        return None
    loaded = RowBaseline.model_validate(item.precondition)
    require_known(mapping, item.id, write.entity_set, loaded)
    return loaded


def _approved(mapping: TableMapping, write: RowWrite, operation: PlannedOperation) -> Table:
    table = table_of(mapping, operation.kind, operation.id, write)
    if table is None:
        raise plan_refusal(operation, f"its table is none that mapping {mapping.name} has for its kind")
    problem = table.problem_of(write) or warnings_problem(table, write, operation.warnings)
    if problem:
        raise plan_refusal(operation, f"{problem} by mapping {mapping.name}")
    problem = elastic_problem(table, write, operation.replay)
    if problem:
        raise InvalidInput(f"operation {operation.id}: {problem}")
    return table


def _left_out(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"{name} is not in the mapping, and is left out" for name in names)


def _unchecked(draft: Draft) -> str:
    row = "" if draft.creates else ", and the row as it is now"
    if draft.creates and owner_row(draft.table, draft.write.columns) is not None:
        row = f", and who owns the row that {draft.table.owner_from} points to"
    return f"not checked, since no request can be made: the table's definition, owners{row}"
