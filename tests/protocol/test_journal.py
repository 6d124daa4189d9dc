"""The entries of the journal: what each holds, and what is wrong with one that does not fit."""

from datetime import timedelta

import pytest
from pydantic import ValidationError

from tests.support.remotes import Meets, RemoteAdapter, Text
from tests.support.worlds import entry_of, held_by_another, planned_session, refuse, take_over
from writeahead import PlannedOperation, Receipt, RunPolicy, emits
from writeahead.errors import CorruptArtifact, OutcomeUnknown
from writeahead.model import RunStatus
from writeahead.protocol.encoding import decode, encode_model
from writeahead.protocol.journal import Journal
from writeahead.protocol.schema import Event, JournalEntry
from writeahead.protocol.session import StoredSession, read_stored
from writeahead.stores.memory import MemoryStore
from writeahead.testing import FaultyStore, ManualClock, StoreFault, WrapperStore


def events(world):
    keys = [name for name in world.names() if "/journal/" in name]
    entries = [world.json(key) for key in keys]
    return [(entry["event"], entry.get("operation"), sorted(entry["receipts"])) for entry in entries]


def test_a_short_session_of_provable_operations_needs_no_entry(world):
    world.policy = RunPolicy()
    for last in ("create", "lookup"):
        assert world.run("create", "create", last, session_id=last).status is RunStatus.COMPLETED
    assert not [name for name in world.names() if "/journal/" in name]


@pytest.mark.parametrize("kind", ["upsert", "update"])
def test_receipts_are_journaled_before_what_may_write_their_rows(world, kind):
    """Sent again after it, a create would undo a delete, and an update meet a conflict."""
    world.policy = RunPolicy()
    assert world.run("create", kind, "create", kind, kind).status is RunStatus.COMPLETED
    assert [operation for _, operation, _ in events(world)] == ["1-create", "3-create", f"4-{kind}"]


class Rows(RemoteAdapter):
    """Knows which rows its operations write: the one that the text names, if it does."""

    def row_of(self, operation):
        return operation.payload["text"] or None


@pytest.mark.parametrize(
    ("rows", "journaled"),
    [
        (["a", "b", "c"], []),
        (["a", "a", "c"], ["1-create"]),
        (["a", "b", "a"], ["2-update"]),
        (["a", "b", "b"], ["2-update"]),
        (["", "b", "c"], ["1-create"]),
        (["a", "", "c"], ["1-create", "2-update"]),
    ],
)
def test_receipts_of_other_rows_may_wait(world, rows, journaled):
    world.policy, world.adapter = RunPolicy(), Rows(world.remote)
    kinds = ("create", "update", "upsert")
    asked = [{"kind": kind, "payload": {"text": row}} for kind, row in zip(kinds, rows, strict=True)]
    assert world.run_operations(asked).status is RunStatus.COMPLETED
    assert [operation for _, operation, _ in events(world)] == journaled


def test_the_lease_is_renewed_before_an_announcement(world):
    world.policy = RunPolicy(lease=60, run_limit=3000, journal_interval=0)
    emit = world.adapter.emit_create

    def slow(payload, operation):
        world.clock.elapsed += 29
        return emit(payload, operation)

    world.adapter.emit_create = slow
    assert world.run("create", "create", "mail").status is RunStatus.COMPLETED
    world.policy = RunPolicy(lease=60, run_limit=3000)
    assert world.run("create", "create", "mail", session_id="s2").status is RunStatus.COMPLETED


def test_receipts_are_journaled_once_the_newest_entry_is_old(world):
    world.policy = RunPolicy()
    emit = world.adapter.emit_create

    def slow(payload, operation):
        world.clock.elapsed += 0.4
        return emit(payload, operation)

    world.adapter.emit_create = slow
    assert world.run(*["create"] * 7).status is RunStatus.COMPLETED
    assert events(world) == [
        ("confirmed", "3-create", ["1-create", "2-create", "3-create"]),
        ("confirmed", "6-create", [f"{n}-create" for n in range(1, 7)]),
    ]


@pytest.mark.parametrize(("interval", "journaled"), [(1, True), (4, True), (4.1, False)])
def test_receipts_are_journaled_before_a_longer_wait(world, interval, journaled):
    world.clock.random = lambda: 0.0
    world.policy = RunPolicy(journal_interval=interval, wait_initial=4)
    world.remote.script["2-create"] = [Meets.UNAVAILABLE]
    seen = []
    world.clock.sleep = lambda seconds: seen.append((seconds, events(world)))
    assert world.run("create", "create").status is RunStatus.COMPLETED
    assert seen == [(4.0, [("confirmed", "1-create", ["1-create"])] if journaled else [])]


def test_receipts_are_journaled_before_a_wait_for_a_late_request(world):
    world.policy = RunPolicy()
    seen = []
    sleep = world.clock.sleep
    world.clock.sleep = lambda seconds: (seen.append((seconds, events(world))), sleep(seconds))
    world.remote.script["2-lookup"] = [Meets.LOST_REQUEST]
    assert world.run("create", "lookup").status is RunStatus.COMPLETED
    (wait, journaled), *_ = seen
    assert wait >= world.adapter.request_lifetime
    assert journaled == [("confirmed", "1-create", ["1-create"])]


@pytest.mark.parametrize("word", ["every", "batched"])
def test_the_words_of_earlier_versions_are_read_with_a_warning(word):
    interval = {"every": 0, "batched": 86_400}[word]
    with pytest.warns(DeprecationWarning, match=f'journal = "{word}" .* journal_interval = {interval}'):
        policy = RunPolicy(journal=word)
    assert policy == RunPolicy(journal_interval=interval)
    with pytest.warns(DeprecationWarning, match="journal_interval"):
        assert RunPolicy(journal=word, journal_interval=7).journal_interval == 7


@pytest.mark.parametrize("interval", [-1, float("nan"), float("inf"), 86_401])
def test_an_interval_is_a_number_of_seconds_up_to_a_day(interval):
    with pytest.raises(ValidationError, match="journal_interval"):
        RunPolicy(journal_interval=interval)


class Once(RemoteAdapter):
    """Kinds whose receipts must not wait, and one whose may."""

    @emits("create_with_key", key_valid_for=timedelta(days=1))
    def emit_charge(self, payload: Text, operation: PlannedOperation) -> Receipt:
        return self._send(operation, proved=True)

    @emits("create_with_key", key_valid_for=timedelta(days=1))
    def emit_bill(self, payload: Text, operation: PlannedOperation) -> Receipt:
        return self._send(operation, proved=True)

    def find_bill(self, payload: Text, operation: PlannedOperation) -> Receipt | None:
        return None


@pytest.mark.parametrize("kind", ["mail", "lookup", "charge"])
def test_a_receipt_whose_loss_could_do_harm_does_not_wait(world, kind):
    world.policy, world.adapter = RunPolicy(), Once(world.remote)
    assert world.run(kind, "create", "create").status is RunStatus.COMPLETED
    assert events(world)[-1] == ("confirmed", f"1-{kind}", [f"1-{kind}"])


def test_a_key_that_can_be_searched_for_may_wait(world):
    world.policy, world.adapter = RunPolicy(), Once(world.remote)
    assert world.run("bill", "create").status is RunStatus.COMPLETED
    assert events(world) == []


def test_the_announcement_of_the_next_e_mail_carries_the_receipt_of_the_last(world):
    world.policy = RunPolicy()
    assert world.run("create", "mail", "mail", "mail", "create").status is RunStatus.COMPLETED
    assert [(event, operation) for event, operation, _ in events(world)] == [
        ("sending", "2-mail"),
        ("sending", "3-mail"),
        ("sending", "4-mail"),
        ("confirmed", "4-mail"),
    ]
    assert world.json("s1/journal/000002.json")["receipts"].keys() == {"1-create", "2-mail"}


@pytest.mark.parametrize("interval", [0, 1])
def test_an_edit_after_a_kill_can_make_a_conflict_of_an_update(world, interval):
    """What a waiting receipt can bring, if others write meanwhile: docs/decisions/0013."""
    world.policy = RunPolicy(journal_interval=interval)
    world.remote.script["2-create"] = [Meets.INTERRUPT]
    world.store = store = FaultyStore(world.store)
    store.fail("create", f"s1/journal/{2 - interval:06}.json", StoreFault.crash("before", Gone()), times=None)
    with pytest.raises(Gone):
        world.run("update", "create")
    store.heal()
    # The process was killed; then another user edits the row, and our mark is gone.
    world.remote.script["1-update"] = [Meets.CONFLICT]
    world.clock.elapsed += 7200
    report = world.resume()
    assert report.status is (RunStatus.BLOCKED if interval else RunStatus.COMPLETED)


class Gone(BaseException):
    """The process is gone."""


def test_a_missing_journal_entry_is_found_out(world):
    world.remote.script["3-create"] = [Meets.UNAVAILABLE] * 4
    world.run("create", "create", "create")
    world.store.delete("s1/journal/000001.json")
    with pytest.raises(CorruptArtifact, match="000001"):
        world.resume()


def test_a_listing_that_lacks_an_entry_is_no_missing_entry(world):
    """A listing that runs while entries are added may leave one out; each is asked for."""
    world.remote.script["3-create"] = [Meets.REJECTED]
    world.run("create", "create", "create")

    class Lagging(MemoryStore):
        def _list(self, prefix, start_after):
            return (info for info in super()._list(prefix, start_after) if "000002" not in info.key)

    lagging = Lagging()
    lagging._objects = world.store._objects
    assert read_stored(lagging, "s1").number == 3


def test_a_missing_entry_is_named(world):
    world.run("create", "create", "create", "create")
    world.store.delete("s1/writeback.json")
    world.store.delete("s1/journal/000002.json")
    with pytest.raises(CorruptArtifact, match=r"^s1/journal/000002\.json: missing from the journal$"):
        read_stored(world.store, "s1")


@pytest.mark.parametrize("change", [{"plan_digest": "0" * 64}, {"number": 7}])
def test_an_entry_of_another_plan_or_place_is_named(world, change):
    planned_session(world)
    ended = JournalEntry.model_validate(
        {k: v for k, v in entry_of(world, 1).items() if k in JournalEntry.model_fields}
    )
    world.store.put("s1/journal/000001.json", encode_model(ended.model_copy(update=change)))
    with pytest.raises(CorruptArtifact, match=r"^s1/journal/000001\.json: belongs to another plan or place"):
        read_stored(world.store, "s1")


def test_a_journal_goes_on_after_a_million_entries(world):
    session = planned_session(world)
    journal = Journal.of(session, session.plan, world.store, world.clock, lease=600)
    journal.number = 999_998
    for number in (999_999, 1_000_000, 1_000_001):
        journal.append(Event.CLAIMED)
        assert journal.number == number
        assert world.store.head(f"s1/journal/{number}.json")
    # Names of another length sort elsewhere; only their numbers count.
    keys = [info.key for info in world.store.list("s1/journal/")]
    assert keys.index("s1/journal/1000001.json") < keys.index("s1/journal/999999.json")


def test_a_lease_counts_from_the_newest_artifact_in_the_store(world):
    world.clock = ManualClock(skew=-86_400)
    held_by_another(world)
    session = read_stored(world.store, "s1")
    assert session.entry.at < session.written_at
    assert session.lease_ends == session.written_at + timedelta(seconds=600)
    before_any_entry = read_stored(_without(world.store, "s1/journal/"), "s1")
    assert before_any_entry.written_at > before_any_entry.plan.created_at


def _without(store, prefix):
    for info in list(store.list(prefix)):
        store.delete(info.key)
    return store


def test_a_lease_ends_after_the_skew_of_clocks_and_not_earlier(world):
    session = planned_session(world)
    held = StoredSession("s1", plan=session.plan, written_at=session.plan.created_at)
    ends = held.lease_ends + timedelta(seconds=5)
    assert held.status(ends - timedelta(microseconds=1), 5) is RunStatus.IN_PROGRESS
    assert held.status(ends, 5) is RunStatus.RESUME_NEEDED


def test_an_end_is_journaled_without_a_lease(world):
    world.remote.script["2-update"] = [Meets.UNAVAILABLE] * 4
    report = world.run("create", "update")
    ended = entry_of(world, 2)
    assert (ended["event"], ended["operation"], ended["lease_seconds"]) == ("ended", "2-update", 0)
    assert (report.operation, report.error) == ("2-update", "POST /rows: 503")
    assert entry_of(world, 1)["lease_seconds"] == world.policy.lease


def test_an_end_that_finds_another_owner_is_in_progress(world):
    emit = world.adapter.emit

    def taken_over(operation):
        take_over(world)
        return emit(operation)

    world.adapter.emit = taken_over
    world.remote.script["1-create"] = [Meets.REJECTED]
    report = world.run("create")
    assert (report.status, report.operation) == (RunStatus.IN_PROGRESS, "1-create")
    assert "session s1: another owner has taken it over (s1/journal/000001.json)" in report.error
    assert ".blocked/s1" not in world.names()


@pytest.mark.parametrize(
    ("meets", "error", "said"),
    [
        (Meets.BUG, RuntimeError, "the adapter raised RuntimeError"),
        (Meets.INTERRUPT, KeyboardInterrupt, "stopped by KeyboardInterrupt"),
    ],
)
@pytest.mark.parametrize("kind", ["create", "mail"])
def test_an_adapter_bug_is_journaled_by_its_type(world, meets, error, said, kind):
    world.remote.script[f"1-{kind}"] = [meets]
    with pytest.raises(error):
        world.run(kind)
    ended = world.json(f"s1/journal/{1 + (kind == 'mail'):06}.json")
    assert ended["error"] == said
    assert list(ended["attempted"]) == [f"1-{kind}"]
    assert ended["status"] == ("blocked" if kind == "mail" else "resume_needed")


def test_who_claims_gives_its_own_lease_and_heeds_its_own_stop(world):
    planned_session(world)

    class Set:
        def is_set(self):
            return True

    world.policy, world.stop = RunPolicy(lease=77), Set()
    report = world.resume()
    assert (report.status, report.error) == (RunStatus.RESUME_NEEDED, "stopped by a signal or by the caller")
    assert (entry_of(world, 2)["event"], entry_of(world, 2)["lease_seconds"]) == ("claimed", 77)
    assert world.remote.requests == ["1-create"] * 4


def test_an_announcement_names_its_operation(world):
    world.run("create", "mail")
    (key,) = [name for name in world.names() if "/journal/" in name]
    entry = world.json(key)
    assert (entry["event"], entry["operation"], list(entry["attempted"])) == ("sending", "2-mail", ["2-mail"])
    # The receipt before it needs no entry of its own.
    assert list(entry["receipts"]) == ["1-create"]


def test_who_is_taken_over_says_so_and_where(world):
    emit = world.adapter.emit

    def taken_over(operation):
        receipt = emit(operation)
        other = encode_model(decode_entry(world))
        world.store.put("s1/journal/000002.json", other, if_absent=True)
        return receipt

    world.run("create", "create", "create", session_id="s0")
    world.adapter.emit = lambda operation: (
        taken_over(operation) if operation.id == "2-create" else emit(operation)
    )
    report = world.run("create", "create", "create")
    assert (report.status, report.operation) == (RunStatus.IN_PROGRESS, "2-create")
    assert "another owner has taken it over (s1/journal/000002.json)" in report.error
    assert len(world.remote.requests) == 3 + 2


def decode_entry(world):
    """What another owner would write next: the newest entry of a session, as number 2."""
    entry = decode(world.store.get("s1/journal/000001.json").data, JournalEntry, key="s1/journal/000001.json")
    return entry.model_copy(update={"number": 2, "owner": "another"})


def test_a_final_that_can_not_be_put_is_told_in_the_journal(world):
    refuse(world.store, "s1/writeback.json")
    report = world.run("create")
    assert report.status is RunStatus.RESUME_NEEDED
    error = world.json("s1/journal/000001.json")["error"]
    assert "s1/writeback.json" in error
    assert error == report.error


def test_a_bug_is_journaled_with_its_operation(world):
    world.remote.script["2-create"] = [Meets.BUG]
    with pytest.raises(RuntimeError):
        world.run("create", "create")
    assert world.json("s1/journal/000002.json")["operation"] == "2-create"


def test_an_interrupt_at_the_final_is_told_in_the_journal(world):
    refuse(world.store, "s1/writeback.json", KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        world.run("create")
    entry = world.json("s1/journal/000001.json")
    assert (entry["error"], entry.get("operation")) == ("stopped by KeyboardInterrupt", None)
    assert list(entry["receipts"]) == ["1-create"]


class LeavesOpen(WrapperStore):
    """The next puts are of unknown outcome; the first of them has landed."""

    left = 0

    def _put(self, key, data, *, if_absent):
        if not self.left:
            return super()._put(key, data, if_absent=if_absent)
        if self.left == 2:
            super()._put(key, data, if_absent=if_absent)
        self.left -= 1
        raise OutcomeUnknown(self.name, "put", key, "planted")


def test_an_entry_of_ones_own_is_known_after_two_open_puts(world):
    session = planned_session(world)
    store = LeavesOpen(world.store)
    journal = Journal.of(session, session.plan, store, world.clock, lease=60)
    store.left = 2
    for _ in range(2):
        with pytest.raises(OutcomeUnknown):
            journal.append(Event.CLAIMED)
        world.clock.advance(1)
    journal.append(Event.CLAIMED)
    assert journal.number == session.number + 2
