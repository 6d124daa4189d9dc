"""Writes as they go into a plan and come out of one: a file, which may be tampered with."""

from dataclasses import dataclass

from writeahead._validation import Invalid, validated
from writeahead.adapters.dataverse.mapping.payloads import Baseline, RowWrite
from writeahead.adapters.dataverse.mapping.tables import Table
from writeahead.adapters.dataverse.webapi.names import ETAG
from writeahead.errors import InvalidInput
from writeahead.model import KeyedOperation, PlannedOperation, ReplayClass

__all__ = ["Draft", "baseline_of", "plan_refusal", "planned_write"]


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
        section: What the mapping calls the table: ``tables.account``, ``kinds.task``.
    """

    operation: str
    table: Table
    write: RowWrite
    replay: ReplayClass
    baseline: Baseline | None = None
    warnings: tuple[str, ...] = ()
    gaps: tuple[str, ...] = ()
    section: str = ""

    @property
    def creates(self) -> bool:
        """Whether it makes the row."""
        return self.replay is ReplayClass.CREATE_WITH_KEY

    @property
    def watches(self) -> bool:
        """Whether it needs a baseline; an upsert of a table that watches nothing needs none."""
        return self.replay is ReplayClass.CONDITIONAL_UPDATE or (not self.creates and self.table.watches())


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
    if creates and (baseline.planned_at is None or not baseline.absent):
        raise plan_refusal(operation, "the precondition does not say when the row was planned")
    if baseline.absent and operation.replay is not ReplayClass.CONDITIONAL_UPDATE:
        return baseline
    if baseline.etag is None:
        # A row that an operation before this one makes: what that leaves behind is watched.
        if (
            baseline.absent
            or not baseline.guarded
            or not set(table.marker_columns()) <= set(baseline.guarded)
        ):
            raise plan_refusal(operation, "the precondition guards too little")
        return baseline
    most = set(table.baseline_columns(write.columns))
    if not ETAG.fullmatch(baseline.etag):
        raise plan_refusal(operation, "the precondition holds no ETag")
    guarded, least = set(baseline.guarded), set(table.watched_columns())
    # What an operation before this one writes, too, is not guarded: see `baselines`.
    if not (least if table.marker else most) <= guarded <= most:
        raise plan_refusal(operation, "the precondition guards other columns than the mapping")
    return baseline


def planned_write(
    operation: KeyedOperation, write: RowWrite, replay: ReplayClass, warnings: tuple[str, ...] = ()
) -> PlannedOperation:
    """Return the planned operation of a write."""
    return PlannedOperation(
        id=operation.id,
        kind=operation.kind,
        key=operation.key,
        payload=write.model_dump(mode="json"),
        replay=replay,
        warnings=warnings,
    )


def plan_refusal(operation: PlannedOperation, problem: str) -> InvalidInput:
    """Return the error for a plan that can't be carried out. Nothing was sent."""
    return InvalidInput(f"operation {operation.id}: the plan can't be carried out: {problem}")
