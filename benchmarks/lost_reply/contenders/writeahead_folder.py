"""writeahead on a folder, with the default policy; resumed as docs/protocol.md says."""

import contextlib
import itertools
from datetime import datetime, timedelta

from benchmarks.lost_reply import crm as client

from writeahead import (
    Adapter,
    Operation,
    PlannedOperation,
    Receipt,
    ResumeError,
    emits,
    resume_session,
    write_back,
)
from writeahead.adapters.base import target_of
from writeahead.errors import Applied, ConflictError, TransientError
from writeahead.model import RunStatus
from writeahead.protocol.retry import Clock
from writeahead.protocol.unblocking import unblock_session
from writeahead.stores.local import LocalStore

NAME = "writeahead"
PACKAGES = ("writeahead",)
# A variant: recovery by the same call again, in place of resume_session.
RUN_AGAIN = "run again"
CREATES = {"key": "keyed_contact", "search": "searched_contact", "neither": "bare_contact"}


def load(folder: str) -> None:
    """Load and build, once for all children, what a first session loads and builds."""

    class Refusing:
        """A remote that reads, and takes nothing."""

        setup = "key"

        def __getattr__(self, name: str):
            return self._answer

        def _answer(self, *args) -> dict:
            if args:
                raise client.NotApplied("POST: 503")
            return {"version": 1}

    nowhere = client.Crm("http://127.0.0.1:1/0", "key")
    with contextlib.suppress(client.Unknown):
        nowhere.email()
    kinds = (*CREATES.values(), "deal", "email")
    for place, crm in itertools.product(("refusing", "nowhere"), (Refusing(), nowhere)):
        means = {"store": LocalStore(f"{folder}/{place}"), "adapter": CrmAdapter(crm), "clock": LaterClock(0)}
        for kind in kinds:
            write_back([Operation(kind=one) for one in (kind, *kinds)], session_id=kind, **means)
            with contextlib.suppress(ResumeError):
                resume_session(kind, now="to load it", **means)


class LaterClock(Clock):
    """The clock of a process that comes some hours from now. Its sleeps end at once."""

    def __init__(self, hours: int) -> None:
        self._ahead = hours * 3600.0

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self._ahead)

    def monotonic(self) -> float:
        return super().monotonic() + self._ahead

    def sleep(self, seconds: float) -> None:
        self._ahead += seconds


class CrmAdapter(Adapter):
    """The same requests as all contenders send, each with its replay class."""

    name = "crm"

    def __init__(self, crm: client.Crm) -> None:
        self._crm = crm

    def target(self) -> str:
        return target_of("the benchmark's remote")

    @emits("create_with_key")
    def emit_keyed_contact(self, payload: dict, operation: PlannedOperation) -> Receipt:
        return _sent(self._crm.post_contact, operation.key)

    @emits("lookup")
    def emit_searched_contact(self, payload: dict, operation: PlannedOperation) -> Receipt:
        return _sent(self._crm.post_contact, operation.key)

    def find_searched_contact(self, payload: dict, operation: PlannedOperation) -> Receipt | None:
        return Receipt(outcome="already_applied") if _read(self._crm.find, operation.key) else None

    @emits("unprovable")
    def emit_bare_contact(self, payload: dict, operation: PlannedOperation) -> Receipt:
        return _sent(self._crm.post_contact, operation.key)

    def plan_deal(self, payload: dict, operation) -> PlannedOperation:
        return PlannedOperation(
            id=operation.id,
            kind=operation.kind,
            key=operation.key,
            payload=payload,
            precondition=_read(self._crm.baseline),
            replay="conditional_update",
        )

    @emits("conditional_update")
    def emit_deal(self, payload: dict, operation: PlannedOperation) -> Receipt:
        return _sent(self._crm.update, operation.precondition)

    @emits("unprovable")
    def emit_email(self, payload: dict, operation: PlannedOperation) -> Receipt:
        return _sent(self._crm.email)


def _sent(call, *args) -> Receipt:
    try:
        call(*args)
    except client.NotApplied as error:
        raise TransientError(str(error), applied=Applied.NO, retry_after=30) from None
    except client.Unknown as error:
        raise TransientError(str(error), applied=Applied.UNKNOWN) from None
    except client.Conflict as error:
        raise ConflictError(str(error)) from None
    return Receipt()


def _read(call, *args):
    try:
        return call(*args)
    except (client.NotApplied, client.Unknown) as error:
        raise TransientError(str(error), applied=Applied.NO) from None


def work(job) -> str:
    clock = LaterClock(job.round)
    store = LocalStore(job.folder)
    means = {"store": store, "adapter": CrmAdapter(job.crm), "clock": clock}
    if job.verb == "answer":
        return answer(job, means)
    is_resumed = job.verb == "recover" and job.variant != RUN_AGAIN
    return _said(_recovered(job, means) if is_resumed else _run(job, means))


def _run(job, means):
    kinds = (CREATES[job.crm.setup], "deal", "email")
    return write_back([Operation(kind=kind) for kind in kinds], session_id=job.session, **means)


def _recovered(job, means):
    try:
        return resume_session(job.session, **means)
    except ResumeError:  # it was killed before its plan: the caller runs it again
        return _run(job, means)


def answer(job, means) -> str:
    """Be the operator, who has found out whether it took effect."""
    blocked = resume_session(job.session, **means)
    step = "email" if blocked.operation.endswith("email") else "create"
    assume = {blocked.operation: "applied" if job.facts[step] else "not-applied"}
    store, clock = means["store"], means["clock"]
    unblock_session(job.session, store=store, reason="I asked", assume=assume, clock=clock)
    return "again"


def _said(report) -> str:
    if report.status in (RunStatus.COMPLETED, RunStatus.NO_RESUME_NEEDED):
        return "done"
    if report.status is RunStatus.BLOCKED:
        conflict = report.block_reason == "conflict_detected"
        raise (client.Conflict if conflict else client.Unknown)(f"{report.operation}: {report.block_reason}")
    return "again"
