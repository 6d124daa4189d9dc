"""Writes as they go into a plan and come out of one: a file, which may be tampered with."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from writeahead._validation import Invalid, validated
from writeahead.adapters.dataverse.mapping.payloads import Baseline, RowWrite
from writeahead.adapters.dataverse.mapping.row_baseline import RowBaseline
from writeahead.adapters.dataverse.mapping.tables import STATES, Table
from writeahead.adapters.dataverse.webapi.names import ETAG, Scalar
from writeahead.errors import InvalidInput, NotReady
from writeahead.model import KeyedOperation, PlannedOperation, ReplayClass

__all__ = [
    "Draft",
    "StoredValue",
    "baseline_of",
    "marks_of",
    "noted",
    "plan_refusal",
    "planned_write",
    "require_complete",
    "warnings_problem",
]


@dataclass(frozen=True)
class StoredValue:
    """What the service may make of a value that is written.

    Attributes:
        forms: What the column may read then, other than as what was written.
        warning: Why that is not what was asked for, without the value; None if it is.
    """

    forms: tuple[Scalar, ...] = ()
    warning: str | None = None


@dataclass(frozen=True)
class Draft:
    """One write of a plan that is being made.

    Attributes:
        operation: The operation's id.
        table: Of the mapping.
        write: What is to be written.
        replay: How.
        baseline: What the row is like, where that matters.
        warnings: What looks wrong, but is written.
        gaps: What the payload lacks.
        stored: By column, what the service may make of what is written.
        found: The GUID of a row that is there already, so that nothing is created.
        loaded: What the row was like when the caller loaded it; None if the caller did not say.
        section: What the mapping calls the table: ``tables.account``, ``kinds.task``.
    """

    operation: str
    table: Table
    write: RowWrite
    replay: ReplayClass
    baseline: Baseline | None = None
    warnings: tuple[str, ...] = ()
    gaps: tuple[str, ...] = ()
    stored: Mapping[str, StoredValue] = field(default_factory=dict)
    found: str | None = None
    loaded: RowBaseline | None = None
    section: str = ""

    @property
    def creates(self) -> bool:
        """Whether it makes the row."""
        return self.replay is ReplayClass.CREATE_WITH_KEY

    @property
    def watches(self) -> bool:
        """Whether it needs a baseline.

        An upsert of a table that watches nothing needs none, unless the caller has loaded the row.
        """
        return self.replay is ReplayClass.CONDITIONAL_UPDATE or (
            not self.creates and (self.table.watches() or self.loaded is not None)
        )

    @property
    def forms(self) -> dict[str, tuple[Scalar, ...]]:
        """What the columns that are written may read then, other than as what is written."""
        return {
            name: value.forms
            for name, value in self.stored.items()
            if name in self.write.columns and value.forms
        }

    def stored_warnings(self) -> tuple[str, ...]:
        """Why columns that are written will not hold what was asked for."""
        written = (value for name, value in self.stored.items() if name in self.write.columns)
        return tuple(value.warning for value in written if value.warning)


def require_complete(drafts: Sequence[Draft]) -> None:
    """Require that no draft has a gap.

    Raises:
        NotReady: Some have; it names every gap.
    """
    gaps = [f"operation {draft.operation}: {gap}" for draft in drafts for gap in draft.gaps]
    if gaps:
        raise NotReady(*gaps)


class _Marked(Protocol):
    @property
    def table(self) -> Table: ...

    @property
    def write(self) -> RowWrite: ...


def marks_of(others: Iterable[_Marked], one: _Marked) -> tuple[str, ...]:
    """What other operations on the row of one write into the column that tells its operation."""
    return tuple(
        mark
        for other in others
        if other.write.row_address == one.write.row_address
        and other.table.marker == one.table.marker
        and (mark := other.table.mark_of(other.write.columns)) is not None
    )


def baseline_of(operation: PlannedOperation, table: Table, write: RowWrite) -> Baseline | None:
    """Return the baseline of a planned write; None for one that needs none.

    Raises:
        InvalidInput: The plan has none that fits the table.
    """
    creates = operation.replay is ReplayClass.CREATE_WITH_KEY
    if operation.precondition is None and (
        creates or (operation.replay is ReplayClass.UPSERT and not table.watches())
    ):
        return None
    baseline = validated(lambda: Baseline.model_validate(operation.precondition))
    if isinstance(baseline, Invalid):
        raise plan_refusal(operation, "the precondition is no baseline")
    if baseline.found is not None and not creates:
        raise plan_refusal(operation, "the precondition has a row in place of one that is not created")
    if creates and (baseline.planned_at is None or not baseline.absent):
        raise plan_refusal(operation, "the precondition does not say when the row was planned")
    if not (set(baseline.stored) <= set(write.columns) and set(baseline.left) <= set(baseline.guarded)):
        raise plan_refusal(operation, "the precondition has stored values of other columns than it writes")
    if operation.replay is ReplayClass.UPSERT and not table.watches() and baseline.etag is None:
        # With a version, its caller had loaded the row.
        problem = "the precondition guards what the mapping does not" if baseline.watches else None
    elif baseline.absent and operation.replay is not ReplayClass.CONDITIONAL_UPDATE:
        problem = None
    else:
        # Completions of earlier versions watch the state alone.
        added = set(table.guarded) - set(STATES) if operation.kind == "complete_activity" else set()
        problem = _problem_of_guards(baseline, table, write, added)
    if problem:
        raise plan_refusal(operation, problem)
    return baseline


def _problem_of_guards(
    baseline: Baseline, table: Table, write: RowWrite, unsaid: Collection[str]
) -> str | None:
    """Say why a baseline does not guard what the mapping has guarded; None if it does.

    ``unsaid`` are columns that it may leave out.
    """
    guarded, least = set(baseline.guarded), set(table.watched_columns())
    if baseline.etag is None:
        # A row that an operation before this one makes: what that leaves behind is watched.
        marked = set(table.marker_columns()) <= guarded
        return "the precondition guards too little" if baseline.absent or not guarded or not marked else None
    if not ETAG.fullmatch(baseline.etag):
        return "the precondition holds no ETag"
    most = set(table.baseline_columns(write.columns))
    # What an operation before this one writes, too, is not guarded: see `baselines`.
    if not (least if table.marker else most) - set(unsaid) <= guarded <= most:
        return "the precondition guards other columns than the mapping"
    return None


def planned_write(
    operation: KeyedOperation,
    write: RowWrite,
    replay: ReplayClass,
    warnings: tuple[str, ...] = (),
    loaded: RowBaseline | None = None,
) -> PlannedOperation:
    """Return the planned operation of a write.

    What the caller loaded stands in for the baseline, until the row is held against it.
    """
    return PlannedOperation(
        id=operation.id,
        kind=operation.kind,
        key=operation.key,
        payload=write.model_dump(mode="json"),
        precondition=loaded.model_dump(mode="json") if loaded else None,
        replay=replay,
        warnings=warnings,
    )


def noted(draft: Draft) -> Draft:
    """Put the warnings of a write into the column that the mapping has for them.

    Where nothing else is written, they are not either.
    """
    if not draft.write.columns or draft.found is not None:
        return draft
    columns = {**draft.write.columns, **draft.table.note(draft.warnings)}
    return replace(draft, write=draft.write.model_copy(update={"columns": columns}))


def warnings_problem(table: Table, write: RowWrite, warnings: Sequence[str]) -> str | None:
    """Say that a planned write has other warnings than the plan; None if it has these, or none."""
    column = table.warnings_to
    if column is None or column.column not in write.columns:
        return None
    right = column.is_text(write.columns[column.column], warnings)
    return (
        None
        if right
        else f"columns has {column.column!r} with a value that is not the warnings of the plan, as approved"
    )


def plan_refusal(operation: PlannedOperation, problem: str) -> InvalidInput:
    """Return the error for a plan that can't be carried out. Nothing was sent."""
    return InvalidInput(f"operation {operation.id}: the plan can't be carried out: {problem}")
