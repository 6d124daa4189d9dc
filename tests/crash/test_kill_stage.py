"""kill -9 of a run of twenty independent operations on a folder, and of its resumes."""

from collections import Counter

import pytest

from tests.support.invariants import Folder, hours_later
from tests.support.kills import KILLED
from tests.support.reference_remote import ReferenceAdapter, serve
from tests.support.remotes import found_out
from writeahead import RunPolicy, resume_session
from writeahead.model import BlockReason, RunStatus, idempotency_key
from writeahead.protocol.unblocking import unblock_session

KINDS = ["mail", "lookup", "create", "upsert"] * 5
OPERATIONS = [
    {"kind": kind, "payload": {"text": f"{n} {kind}"}, "id": f"{kind}-{n}", "independent": True}
    for n, kind in enumerate(KINDS, start=1)
] + [{"kind": "create", "payload": {"text": "the last"}, "id": "last"}]
KEYS = {operation["id"]: idempotency_key("s1", operation["id"]) for operation in OPERATIONS}
POLICY = RunPolicy(clock_skew=0, wait_initial=0)


@pytest.fixture
def remote():
    with serve() as remote:
        yield remote


def counts(remote):
    return {name: remote.effects[key] for name, key in KEYS.items()}


def recover(place, remote, hours):
    """Resume, and decide about one unknown outcome after another, as an operator who looks."""
    adapter, store, asked = ReferenceAdapter(remote.url), place.open(), Counter()
    try:
        for turn in range(len(KEYS)):
            report = resume_session(
                "s1", store=store, adapter=adapter, policy=POLICY, clock=hours_later(hours + turn)
            )
            assert max(counts(remote).values()) <= 1, counts(remote)
            if report.status is not RunStatus.BLOCKED:
                break
            asked.update(["decisions"])
            assert {stop.block_reason for stop in report.stops} == {BlockReason.OUTCOME_UNKNOWN}
            mails = {stop.operation for stop in report.stops}
            left = set(KEYS) - set(report.receipts)
            assert left - mails <= {"last"}, "what could be sent was not"
            name = report.stops[0].operation
            assume = {name: found_out(counts(remote)[name] == 1)}
            unblock_session(
                "s1", store=store, reason="I looked", assume=assume, clock=hours_later(hours + turn)
            )
    finally:
        adapter.close()
    assert report.status in (RunStatus.COMPLETED, RunStatus.NO_RESUME_NEEDED), report
    return asked["decisions"]


@pytest.mark.timeout(3000)
def test_twenty_under_way_are_each_there_once_after_a_kill(fork_server, remote, tmp_path, full, chance):
    whole = Folder(tmp_path / "whole")
    end, steps = fork_server("run", whole.url, remote, operations=OPERATIONS)
    assert (end, steps[-1]) == (0, "status completed")
    assert set(counts(remote).values()) == {1}
    announced = len([step for step in steps if step.startswith("after create s1/journal")])
    assert announced < 2 * len(KINDS), "operations under way share no entries"
    decided = 0
    moments = range(1, len(steps) - 3) if full else sorted(chance.sample(range(10, len(steps) - 10), 1))
    for deadly in moments:
        remote.forget()
        place = Folder(tmp_path / f"{deadly}")
        end, _ = fork_server("run", place.url, remote, deadly, operations=OPERATIONS)
        if not (place.path / "s1" / "planned-writeback.json").exists():
            assert not remote.effects
            continue
        assert end in (KILLED, 0)  # with threads, a run has not the same number of steps each time
        if full or chance.random() < 0.5:
            fork_server("resume", place.url, remote, chance.randrange(1, 40), hours=1)
        assert max(counts(remote).values()) <= 1
        decided += recover(place, remote, hours=3)
        # The rows of the remote's database, counted around the adapter.
        assert counts(remote) == dict.fromkeys(KEYS, 1)
        assert len(remote.rows) == len(KEYS)
    print(f"{len(moments)} kills, {decided} decisions")
