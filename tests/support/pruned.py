"""Sessions of every state to be pruned or not, and what must hold of one that is being pruned."""

from datetime import timedelta

import pytest
from pydantic import BaseModel

from tests.support.remotes import Meets, RemoteAdapter, operations
from writeahead import (
    RunPolicy,
    abandon_session,
    load_replay_artifact,
    prune,
    resume_session,
    sweep,
    write_back,
    write_planned_writeback_artifact,
    write_writeback_artifact,
)
from writeahead.errors import PlanConflict, ResumeError
from writeahead.testing import ManualClock, WrapperStore

AGE = timedelta(days=90)
POLICY = RunPolicy(journal_interval=0, wait_initial=0, attempts=1)
KINDS = ("create", "mail", "create")


class Outcome(BaseModel):
    text: str


def days_later(days=100):
    clock = ManualClock()
    clock.advance(days * 86_400)
    return clock


def run(store, remote, session_id="s1", kinds=KINDS, *, clock=None, policy=POLICY):
    means = {"store": store, "adapter": RemoteAdapter(remote), "policy": policy, "clock": clock}
    return write_back(operations(*kinds), session_id=session_id, **means)


def completed(store, remote, session_id="s1"):
    assert run(store, remote, session_id).status == "completed"


def parked(store, remote, session_id="s1"):
    """The first operation is applied, the mail was surely not."""
    remote.script["2-mail"] = [Meets.UNAVAILABLE]
    assert run(store, remote, session_id).status == "resume_needed"


def abandoned(store, remote, session_id="s1"):
    parked(store, remote, session_id)
    abandon_session(session_id, store=store, reason="not wanted")


def blocked(store, remote, session_id="s1"):
    remote.script["2-mail"] = [Meets.LOST_REPLY]
    assert run(store, remote, session_id).status == "blocked"


def own_completed(store, remote, session_id="s1"):
    write_planned_writeback_artifact(store, session_id, Outcome(text="call"))
    write_writeback_artifact(store, session_id, Outcome(text="called"))


def own_abandoned(store, remote, session_id="s1"):
    write_planned_writeback_artifact(store, session_id, Outcome(text="call"))
    abandon_session(session_id, store=store, reason="not wanted")


ENDED = {"completed": completed, "abandoned": abandoned}
OWN = {"own completed": own_completed, "own abandoned": own_abandoned}


def pruned(store, *, clock=None, **more):
    return list(prune(store, AGE, dry_run=False, clock=clock or days_later(), **more))


def closed(store, remote, status="completed", clock=None):
    """Nothing that anyone does with an ended session of ours sends anything."""
    sent, clock = list(remote.requests), clock or days_later()
    expected = "no_resume_needed" if status == "completed" else "abandoned"
    adapter = RemoteAdapter(remote)
    means = {"store": store, "adapter": adapter, "policy": POLICY, "clock": clock}
    for scan in (False, True):
        for result in sweep(scan=scan, **means):
            assert result.error is None, result
    assert resume_session("s1", **means).status == expected
    assert run(store, remote, clock=clock).status == expected
    with pytest.raises(PlanConflict):
        run(store, remote, kinds=("create",), clock=clock)
    list(sweep(**means))  # a repeat that was refused puts a marker first
    assert remote.requests == sent
    assert not [info.key for info in store.list(".open/")]


def closed_own(store, status="completed"):
    """The same of a session of an orchestrator of its own, whose plan was replaced."""
    called = []
    list(sweep(store, on_own=lambda *_: called.append(1), scan=True, clock=days_later()))
    with pytest.raises(ResumeError, match=f"was {status}, and pruned"):
        load_replay_artifact(store, "s1", Outcome)
    for text in ("call", "another"):
        with pytest.raises(PlanConflict, match=r"pruned|abandoned"):
            write_planned_writeback_artifact(store, "s1", Outcome(text=text))
    assert called == []
    assert not [info.key for info in store.list(".open/")]


class Died(BaseException):
    """The process is gone."""


class Interrupting(WrapperStore):
    """Does something right before the n-th call."""

    def __init__(self, inner, number, act):
        super().__init__(inner)
        self.number, self.act, self.count = number, act, 0

    def _around(self, verb, key, call):
        self.count += 1
        if self.count == self.number:
            self.act()
        return call()
