"""A session as a row of the HTML report: without values, unless they are asked for."""

import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Literal

from writeahead.model import BlockReason, PlannedOperation
from writeahead.protocol.keys import blocked_key, open_key
from writeahead.protocol.schema import JournalEntry
from writeahead.report.html.timeline import Past, lane_names, timeline
from writeahead.report.html.views import (
    Artifact,
    History,
    OperationRow,
    SessionRow,
    StepPart,
    moment,
    visible,
)
from writeahead.report.page import SessionPage
from writeahead.report.salvage import Readable
from writeahead.report.session import OperationLine

__all__ = ["is_marked", "row_of", "split_step"]

_WHY: Mapping[BlockReason, str] = {
    BlockReason.NOT_READY: "The remote lacks what the session needs.",
    BlockReason.CONFLICT_DETECTED: "The row was changed elsewhere meanwhile.",
    BlockReason.REJECTED: "The remote refused it.",
    BlockReason.OUTCOME_UNKNOWN: "It may have taken effect, and that can't be proved.",
    BlockReason.UNKNOWN_KIND: "The adapter does not know its kind.",
    BlockReason.GAVE_UP: "Several runs made no progress.",
}
# What names a command: the program and its verb.
_NAMED = ("writeahead", "verb")
# A command runs up to what `next_step` says after one. What is in quotes is a part of it.
_COMMAND = re.compile(r"""writeahead [a-z](?:'[^']*'|"[^"]*"|(?!; |, | \(|, and|$)[^'"])*""")


def is_marked(page: SessionPage) -> bool:
    """Whether a session has a marker, so that a sweep sees it."""
    markers = (open_key(page.session_id), blocked_key(page.session_id))
    return any(item.key in markers and item.size is not None for item in page.artifacts)


def split_step(step: str) -> Iterator[StepPart]:
    """The words and the commands of a next step, in order."""
    place = 0
    for found in _COMMAND.finditer(step):
        if found.start() > place:
            yield StepPart(text=step[place : found.start()])
        yield StepPart(text=found[0], is_command=True, is_whole=len(found[0].split()) > len(_NAMED))
        place = found.end()
    if place < len(step):
        yield StepPart(text=step[place:])


def row_of(
    page: SessionPage, readable: Readable, step: str | None, *, now: datetime, with_payloads: bool
) -> SessionRow:
    """Make a row of what was read of a session.

    Args:
        page: What there is to read about it.
        readable: The artifacts that it was made of.
        step: What to do next.
        now: The wall clock's time.
        with_payloads: Whether payloads and the values of receipts come in.
    """
    state = _state(page)
    needs = _needs(state, page)
    past = Past(
        plan=readable.plan,
        history=page.history,
        confirmed=[at for line in page.operations if line.receipt and (at := line.receipt.confirmed_at)],
        completed_at=readable.final.completed_at if readable.final else None,
        now=now if needs else None,
    )
    return SessionRow(
        id=page.session_id,
        state=state,
        needs=needs,
        reason=page.block_reason.value if page.block_reason and needs == "decision" else None,
        why=_why(state, page),
        error=visible(error) if (error := page.problem or page.error) else None,
        step=tuple(split_step(visible(step))) if step else (),
        way_out=tuple(map(visible, page.way_out)),
        facts=tuple(_facts(page, past, now)),
        planned_at=moment(page.planned_at),
        confirmed=len(page.receipts),
        total=len(page.operations),
        stops=tuple(_stops(page)),
        warnings=tuple(map(visible, page.warnings)),
        operations=tuple(_operations(page, readable, with_payloads=with_payloads)),
        history=tuple(_history(past, with_payloads=with_payloads)),
        artifacts=tuple(
            Artifact(
                key=visible(item.key),
                size=item.size,
                at=moment(item.last_modified),
                problem=visible(item.problem.removeprefix(f"{item.key}: ")) if item.problem else None,
            )
            for item in page.artifacts
        ),
        timeline=timeline(past),
    )


def _state(page: SessionPage) -> str:
    if page.pruned_at:
        return "pruned"
    if page.status is not None:
        return page.status.value
    return "unreadable" if page.way_out else "no_plan"


def _needs(state: str, page: SessionPage) -> Literal["decision", "work", ""]:
    if state in ("unreadable", "blocked"):
        return "decision"
    if state in ("resume_needed", "in_progress", "no_plan"):
        return "work" if is_marked(page) else "decision"
    return ""


def _why(state: str, page: SessionPage) -> str | None:
    if state == "unreadable":
        return "An artifact is damaged or missing, so nothing is sent."
    if state == "blocked" and page.block_reason:
        return _WHY[page.block_reason]
    if state == "in_progress" and page.host:
        return visible(f"Process {page.pid} on {page.host} is at work on it.")
    if _needs(state, page) == "decision":
        return "Its marker is lost, so no sweep sees it."
    return (
        "Only the program that planned it can read its plan." if page.own and state != "completed" else None
    )


def _facts(page: SessionPage, past: Past, now: datetime) -> Iterator[tuple[str, str]]:
    """What there is to say besides, as a name and a text."""
    if page.own:
        yield "Orchestrator", "your own; only it can read the plan"
    if page.adapter:
        yield "Adapter", visible(page.adapter)
    if page.planned_at:
        yield "Planned", f"{moment(page.planned_at)}{_ago(now - page.planned_at)}"
    if past.completed_at:
        yield "Completed", f"{moment(past.completed_at)}{_ago(now - past.completed_at)}"
    if page.pruned_at:
        yield "Pruned", f"{moment(page.pruned_at)}: was {page.status}; its payloads and receipts are gone"
    if page.not_before:
        yield "Not before", moment(page.not_before) or ""
    if page.stops:
        yield "Stopped at", visible(", ".join(stop.operation for stop in page.stops))
    if page.atomic:
        yield "Atomic", "its operations are one transaction"


def _ago(age: timedelta) -> str:
    seconds = age.total_seconds()
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f", {seconds // size:.0f} {unit} ago"
    return f", {seconds:.0f} s ago" if seconds >= 0 else ""


def _stops(page: SessionPage) -> Iterator[str]:
    """Each operation at which a run stopped; of a single one, the error and the step do."""
    for stop in page.stops if len(page.stops) > 1 else ():
        reason = f" ({stop.block_reason})" if stop.block_reason else ""
        when = f", not before {moment(stop.not_before)}" if stop.not_before else ""
        yield visible(f"{stop.operation}: {stop.status}{reason}{when}: {stop.error}")


def _operations(page: SessionPage, readable: Readable, *, with_payloads: bool) -> Iterator[OperationRow]:
    source = readable.final or readable.plan
    planned = {item.id: item for item in source.operations} if source and with_payloads else {}
    for line in page.operations:
        receipt = line.receipt
        yield OperationRow(
            id=visible(line.id),
            state=line.state,
            kind=visible(line.kind) if line.kind else None,
            replay=line.replay.value if line.replay else None,
            detail=_detail(line),
            independent=line.independent,
            payload=_payload(planned[line.id]) if line.id in planned else None,
            receipt=_json(receipt.model_dump(mode="json")) if receipt and with_payloads else None,
        )


def _detail(line: OperationLine) -> str:
    receipt = line.receipt
    if receipt:
        tries = f", {receipt.attempts} attempts" if receipt.attempts and receipt.attempts > 1 else ""
        when = f", {moment(receipt.confirmed_at)}" if receipt.confirmed_at else ""
        return f"{receipt.outcome}{tries}{when}"
    if line.state == "attempted":
        when = f", {moment(line.attempted_at)} at the latest" if line.attempted_at else ""
        return f"may have been sent{when}"
    return ""


def _payload(operation: PlannedOperation) -> str:
    if operation.precondition is None:
        return _json(operation.payload)
    return _json({"payload": operation.payload, "precondition": operation.precondition})


def _json(value: Any) -> str:
    return visible(json.dumps(value, indent=2, ensure_ascii=False))


def _history(past: Past, *, with_payloads: bool) -> Iterator[History]:
    names = lane_names(past)
    if past.plan:
        owner = names[past.plan.owner]
        yield History(at=moment(past.plan.created_at) or "", event="planned", owner=owner)
    for entry in past.history:
        yield History(
            at=moment(entry.at) or "",
            event=entry.event.value,
            owner=names[entry.owner],
            text=visible(_about(entry)),
            values=_json(entry.issued) if entry.issued is not None and with_payloads else None,
        )
    if past.completed_at:
        owner = names[past.owners[-1]] if past.owners else ""
        yield History(at=moment(past.completed_at) or "", event="completed", owner=owner)


def _about(entry: JournalEntry) -> str:
    about = (entry.operation, entry.status, entry.block_reason, entry.error, entry.reason)
    until = f"not before {moment(entry.not_before)}" if entry.not_before else None
    return ", ".join(str(part) for part in (*about, until) if part)
