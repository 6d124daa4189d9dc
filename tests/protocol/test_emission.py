"""What is kept of each attempt: receipts, waits, and what the remote said."""

from datetime import timedelta

import pytest

from tests.support.remotes import Meets
from writeahead import Receipt, ResumeError, RunPolicy
from writeahead.errors import (
    AdapterError,
    Applied,
    InvalidInput,
    NotReady,
    PlanConflict,
    TransientError,
)
from writeahead.model import BlockReason, RunStatus
from writeahead.protocol.encoding import digest_of
from writeahead.protocol.session import read_stored
from writeahead.protocol.sweep import sweep
from writeahead.protocol.unblocking import unblock_session
from writeahead.stores.base import ArtifactStore


def receipts_in_final(world):
    return [operation["receipt"] for operation in world.json("s1/writeback.json")["operations"]]


def test_a_receipt_has_its_time_and_number_of_attempts(world):
    world.remote.script["1-create"] = [Meets.UNAVAILABLE, Meets.UNAVAILABLE]
    report = world.run("create", "create")
    first, second = report.receipts.values()
    assert (first.attempts, second.attempts) == (3, 1)
    # Waits of one and two seconds.
    assert first.confirmed_at == second.confirmed_at == world.clock.start + timedelta(seconds=3)
    assert [receipt["attempts"] for receipt in receipts_in_final(world)] == [3, 1]
    assert None not in [receipt["confirmed_at"] for receipt in receipts_in_final(world)]


def test_a_receipt_found_by_a_search_has_no_attempts(world):
    world.policy = RunPolicy(attempts=1)
    world.remote.script["1-lookup"] = [Meets.LOST_REPLY]
    world.run("lookup")
    world.clock.elapsed += 3600
    assert world.resume().receipts["1-lookup"].attempts == 0


def test_fields_that_an_adapter_sets_keep_the_remote_id(world):
    world.adapter.emit_create = lambda payload, operation: Receipt(
        remote_id="r1", remote_version="v1", confirmed_at=world.clock.start, attempts=9
    )
    world.run("create")
    (receipt,) = receipts_in_final(world)
    assert (receipt["remote_id"], receipt["remote_version"], receipt["attempts"]) == ("r1", "v1", 1)


@pytest.mark.parametrize(
    ("meets", "said"),
    [(Meets.REJECTED, "POST /rows: 400"), (Meets.CONFLICT, "PATCH /rows: another user wrote it")],
)
def test_a_blocked_session_says_what_the_remote_said(world, meets, said):
    world.remote.script["1-create"] = [meets]
    assert world.run("create").error == said
    assert world.json("s1/journal/000001.json")["error"] == said


def test_a_wait_between_attempts_ends_when_told_to_stop(world):
    waits = []

    class Told:
        def is_set(self):
            return len(waits) > 1

        def wait(self, seconds):
            waits.append(seconds)

    world.stop = Told()
    world.remote.script["1-create"] = [Meets.UNAVAILABLE] * 4
    report = world.run("create")
    assert (report.status, report.error) == (RunStatus.RESUME_NEEDED, "stopped by a signal or by the caller")
    assert waits == [1, 2]
    assert world.clock.slept == []
    assert world.remote.requests == ["1-create"] * 2


@pytest.mark.parametrize(("asked", "waits"), [(None, 60), (10, 60), (90, 90)])
def test_a_lookup_is_not_searched_before_it_could_have_landed(world, asked, waits):
    def lost(payload, operation):
        raise TransientError("POST /rows: reset", applied=Applied.UNKNOWN, retry_after=asked)

    world.policy = RunPolicy(attempts=1)
    world.adapter.emit_lookup = lost
    report = world.run("lookup")
    assert report.status is RunStatus.RESUME_NEEDED
    assert report.not_before == world.clock.now() + timedelta(seconds=waits)


@pytest.mark.parametrize(
    ("interval", "takes", "journaled"),
    [(3600, 299, False), (3600, 300, True), (1, 0.5, False), (1, 1, True), (0, 0, True)],
)
def test_a_receipt_waits_for_the_interval_and_half_the_lease_at_most(world, interval, takes, journaled):
    world.policy = RunPolicy(journal_interval=interval, lease=600, run_limit=3000)
    emit = world.adapter.emit_create

    def slow(payload, operation):
        world.clock.elapsed += takes if operation.id == "1-create" else 0
        return emit(payload, operation)

    world.adapter.emit_create = slow
    world.run("create", "create")
    assert ("s1/journal/000001.json" in world.names()) is journaled


def test_a_request_is_known_again_by_later_versions(world):
    """What digests are made of is part of the format: a repeat must know its own session."""
    world.run("create")
    plan = world.json("s1/planned-writeback.json")
    (operation,) = plan["operations"]
    asked = {name: operation[name] for name in ("id", "kind", "key", "payload")}
    assert plan["request_digest"] == digest_of([{"session_id": "s1"} | asked])


def test_a_dry_run_tells_what_it_would_issue(world):
    report = world.run("create", "mail", dry_run=True)
    assert [operation.id for operation in report.operations] == ["1-create", "2-mail"]
    assert report.session_id == "s1"


def test_an_abandoned_session_is_named(world):
    world.store.put(".open/s1", b"")
    world.clock.elapsed += 7200
    for _ in sweep(store=world.store, adapter=world.adapter, policy=world.policy, clock=world.clock):
        pass
    assert read_stored(world.store, "s1").session_id == "s1"
    with pytest.raises(
        ResumeError, match=r"session s1 was abandoned at \d{4}-.*Z before it emitted anything"
    ):
        world.resume()


# Between a reply and its receipt.


def interrupted_at(world, monkeypatch, place):
    """One operation of each kind; an interrupt comes when the last one's reply is there."""

    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(place, interrupt)
    with pytest.raises(KeyboardInterrupt):
        world.run("lookup")
    monkeypatch.undo()
    return world.json("s1/journal/000001.json")


def test_an_interrupt_before_the_receipt_is_an_unknown_outcome(world, monkeypatch):
    entry = interrupted_at(world, monkeypatch, "writeahead.protocol.emission._storable")
    assert (entry["status"], list(entry["attempted"])) == ("resume_needed", ["1-lookup"])
    world.clock.elapsed += 3600
    assert world.resume().status is RunStatus.COMPLETED
    assert (world.remote.searches, world.effects_of("1-lookup")) == (["1-lookup"], 1)


def test_an_interrupt_during_a_failure_is_an_unknown_outcome(world, monkeypatch):
    world.remote.script["1-lookup"] = [Meets.LOST_REPLY]
    entry = interrupted_at(world, monkeypatch, "writeahead.protocol.emission.Emission._note_failure")
    assert list(entry["attempted"]) == ["1-lookup"]
    world.clock.elapsed += 3600
    assert world.resume().status is RunStatus.COMPLETED
    assert world.effects_of("1-lookup") == 1


def test_an_interrupt_once_the_receipt_is_kept_asks_nobody(world, monkeypatch):
    """What is confirmed is not in doubt, whatever comes before it is journaled."""
    world.store = Interrupting(world.store, 2)
    with pytest.raises(KeyboardInterrupt):
        world.run("mail", "create")
    entry = world.json("s1/journal/000002.json")
    assert (entry["status"], list(entry["receipts"]), entry["attempted"]) == ("resume_needed", ["1-mail"], {})
    assert world.resume().status is RunStatus.COMPLETED
    assert world.effects_of("1-mail") == 1


def test_an_interrupt_of_an_announcement_asks_nobody(world):
    """What was not announced was not sent."""
    world.store = Interrupting(world.store, 1)
    with pytest.raises(KeyboardInterrupt):
        world.run("create", "mail")
    assert world.remote.requests == ["1-create"]
    entry = world.json("s1/journal/000001.json")
    assert (entry["status"], entry["attempted"]) == ("resume_needed", {})
    assert world.resume().status is RunStatus.COMPLETED


class Interrupting(ArtifactStore):
    """Interrupted while an entry is on its way, once."""

    def __init__(self, inner, number):
        self._inner, self._key, self._left = inner, f"s1/journal/{number:06}.json", 1

    @property
    def name(self):
        return self._inner.name

    def _put(self, key, data, *, if_absent):
        if key == self._key and self._left:
            self._left = 0
            raise KeyboardInterrupt
        return self._inner.put(key, data, if_absent=if_absent)

    def _get(self, key):
        return self._inner.get(key)

    def _head(self, key):
        return self._inner.head(key)

    def _list(self, prefix, start_after):
        return self._inner.list(prefix, start_after=start_after)

    def _delete(self, key):
        self._inner.delete(key)


# Waits that end early.


class Told:
    """Told to stop while it waits."""

    def __init__(self, clock, after):
        self._clock, self._after, self._told = clock, after, False

    def is_set(self):
        return self._told

    def wait(self, seconds):
        self._clock.elapsed += min(seconds, self._after)
        self._told = True


@pytest.mark.parametrize(("after", "waits"), [(10, True), (3600, False)])
def test_a_stop_during_a_remotes_wait_keeps_the_rest_of_it(world, after, waits):
    world.policy = RunPolicy(lease=20000, run_limit=20000)
    world.remote.script["1-create"] = [Meets.RETRY_AFTER]
    world.stop = Told(world.clock, after)
    report = world.run("create")
    not_before = world.clock.start + timedelta(seconds=3600) if waits else None
    assert (report.status, report.not_before) == (RunStatus.RESUME_NEEDED, not_before)
    assert world.json("s1/journal/000001.json").get("not_before") == (
        not_before.isoformat().replace("+00:00", "Z") if waits else None
    )
    world.stop = None
    if waits:
        assert world.resume().not_before == not_before
        assert world.remote.requests == ["1-create"]
        world.clock.elapsed = 3601
    assert world.resume().status is RunStatus.COMPLETED


def test_a_receipt_that_json_cannot_hold_still_counts(run, adapter):
    adapter.emit_mail = lambda payload, operation: Receipt(remote_id="\ud800")
    report = run("mail")
    assert report.status is RunStatus.COMPLETED
    assert report.receipts["1-mail"].remote_id is None


class CrmError(AdapterError):
    """An adapter's author may well think that this is what one is for."""


class OwnInput(InvalidInput):
    """Raised for what the remote answered: after the effect."""


class OwnNotReady(NotReady):
    """The same."""


@pytest.mark.parametrize("kind", [AdapterError, CrmError, RuntimeError, PlanConflict, OwnInput, OwnNotReady])
def test_an_error_of_an_adapters_own_leaves_the_outcome_unknown(run, resume, adapter, store, kind):
    remote, clock = adapter.remote, run.clock
    for name in ("lookup", "mail"):
        emit = getattr(adapter, f"emit_{name}")

        def lose(payload, operation, emit=emit):
            emit(payload, operation)
            raise kind("the reply was lost")

        setattr(adapter, f"emit_{name}", lose)
        with pytest.raises(kind):
            run("lookup", "mail") if name == "lookup" else resume()
        setattr(adapter, f"emit_{name}", emit)
        clock.elapsed += 3600
    assert resume().block_reason is BlockReason.OUTCOME_UNKNOWN
    assert remote.requests == ["1-lookup", "2-mail"]
    unblock_session("s1", store=store, reason="found", assume={"2-mail": "applied"})
    assert resume().status is RunStatus.COMPLETED
    assert remote.requests == ["1-lookup", "2-mail"]


def test_a_found_id_that_json_cannot_hold_still_counts(run, adapter, remote):
    remote.script["1-lookup"] = [Meets.LOST_REPLY]
    adapter.find_lookup = lambda payload, operation: Receipt(remote_id="\ud800")
    report = run("lookup", "create")
    assert (report.status, report.receipts["1-lookup"].remote_id) == (RunStatus.COMPLETED, None)


@pytest.mark.parametrize("seconds", [1e300, float("inf"), float("nan"), -5.0])
def test_an_absurd_retry_after_is_no_crash(run, adapter, seconds):
    def fail(payload, operation):
        raise TransientError("PUT /rows: 503", applied=Applied.NO, retry_after=seconds)

    adapter.emit_mail = fail
    assert run("mail").status is RunStatus.RESUME_NEEDED
