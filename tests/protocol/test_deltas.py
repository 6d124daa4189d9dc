"""Entries that hold what has changed: together they say what entries with everything would say."""

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.remotes import Meets
from tests.support.worlds import World, held_by_another, planned_session
from writeahead import RunPolicy, resume_session
from writeahead.errors import CorruptArtifact, NewerArtifact, OutcomeUnknown
from writeahead.model import Receipt, RunStatus
from writeahead.protocol.deltas import ChangingMap, number_below
from writeahead.protocol.encoding import decode, encode_model
from writeahead.protocol.journal import Journal
from writeahead.protocol.schema import STATE, Event, JournalEntry
from writeahead.protocol.session import read_stored
from writeahead.testing import WrapperStore


def digits(number: int) -> str:
    return (digits(number // 3) if number >= 3 else "") + str(number % 3)


def test_an_entry_builds_on_the_number_without_its_last_digit_to_the_base_3():
    for number in range(1, 3000):
        below = digits(number).rstrip("0")[:-1]
        assert number_below(number) == int(below.ljust(len(digits(number)), "0") or "0", 3)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.one_of(st.none(), st.integers(0, 3))), max_size=40))
def test_a_map_tells_what_changed_since_each_position(steps):
    changing, plain, then = ChangingMap(), {}, {0: {}}
    for name, value in steps:
        if value is None:
            assert changing.pop(name, None) == plain.pop(name, None)
        else:
            changing[name] = plain[name] = value
        then[changing.position] = dict(plain)
    assert dict(changing) == plain
    assert len(changing) == len(plain)
    for position, was in then.items():
        changed, gone = changing.since(position)
        was.update(changed)
        assert {name: value for name, value in was.items() if name not in gone} == plain


class Truth:
    """Steps a journal at random beside plain dicts, and reads it anew after each entry."""

    def __init__(self):
        world = World(RunPolicy(attempts=1))
        world.remote.script["1-create"] = [Meets.UNAVAILABLE]
        world.run(*["create"] * 6)
        self.store, self.clock = world.store, world.clock
        self.ids = [f"{number}-create" for number in range(1, 7)]
        self.state = {name: {} for name in STATE}
        self.take()

    def take(self):
        """Another owner reads the session, and goes on with it."""
        session = read_stored(self.store, "s1")
        self.journal = Journal.of(session, session.plan, self.store, self.clock, lease=60)

    def act(self, verb, operation_id):
        journal, state, now = self.journal, self.state, self.clock.now()
        if operation_id in state["receipts"] and verb != "settle":
            return
        if verb == "confirm":
            journal.confirm(operation_id, Receipt(remote_id=operation_id), now, 1)
            state["receipts"][operation_id] = journal.receipts[operation_id]
            state["attempted"].pop(operation_id, None)
            state["attempted_since"].pop(operation_id, None)
        elif verb == "forget":
            for name in ("attempted", "attempted_since"):
                getattr(journal, name).pop(operation_id, None)
                state[name].pop(operation_id, None)
        elif verb == "renew":
            journal.generations[operation_id] = 1 + journal.generations.get(operation_id, 0)
            state["generations"][operation_id] = journal.generations[operation_id]
        else:
            name = {"suspect": "attempted", "since": "attempted_since", "settle": "unsettled"}[verb]
            getattr(journal, name)[operation_id] = now
            state[name][operation_id] = now

    def check(self):
        entry = read_stored(self.store, "s1").entry
        assert {name: getattr(entry, name) for name in STATE} == self.state
        assert (entry.base, entry.removed) == (None, {})
        assert entry.holder is not None


VERBS = ["confirm", "suspect", "since", "settle", "renew", "forget"]
STEP = st.one_of(
    st.tuples(st.sampled_from(VERBS), st.integers(0, 5)),
    st.sampled_from([("append", 0), ("append", 1), ("lose", 0), ("lose", 1), ("take", 0)]),
)


@given(st.lists(STEP, max_size=60))
def test_what_is_read_is_what_was_written_whatever_happens_in_between(steps):
    truth = Truth()
    for verb, number in steps:
        truth.clock.advance(1)
        if verb == "append":
            truth.journal.append(Event.CLAIMED)
            truth.check()
        elif verb == "lose":
            # The store does not know whether an entry has landed; the owner goes on.
            truth.journal.store = store = Unsure(truth.store, lands=bool(number))
            with pytest.raises(OutcomeUnknown):
                truth.journal.append(Event.CLAIMED)
            truth.journal.store = store.inner
        elif verb == "take":
            truth.journal.append(Event.CLAIMED)
            truth.take()
        else:
            truth.act(verb, truth.ids[number])
    truth.journal.append(Event.CLAIMED)
    truth.check()


class Unsure(WrapperStore):
    """A put's reply is lost."""

    def __init__(self, inner, *, lands):
        super().__init__(inner)
        self.inner, self._lands = inner, lands

    def _put(self, key, data, *, if_absent):
        if self._lands:
            super()._put(key, data, if_absent=if_absent)
        raise OutcomeUnknown(self.name, "put", key, "planted")


class Counting(WrapperStore):
    """Counts bytes and reads."""

    written = reads = 0

    def _put(self, key, data, *, if_absent):
        self.written += len(data)
        return super()._put(key, data, if_absent=if_absent)

    def _get(self, key):
        self.reads += 1
        return super()._get(key)


@pytest.mark.parametrize("kind", ["mail", "create"])
def test_a_long_session_writes_at_most_5_times_its_final_artifact(kind):
    world = World(RunPolicy(journal_interval=0))
    world.store = Counting(world.store)
    assert world.run(*[kind] * 2000).status is RunStatus.COMPLETED
    assert sum(1 for _ in world.store.list("s1/journal/")) in (1999, 2000)
    assert world.store.written <= 5 * world.store.head("s1/writeback.json").size


def test_a_resume_after_a_silent_owner_writes_as_little():
    """Each operation may have been sent by then, and the journal says so."""
    world = World(RunPolicy(journal_interval=0))
    held_by_another(world, kinds=["create"] * 500)
    world.store = Counting(world.store)
    world.clock.elapsed += 7200
    assert world.resume().status is RunStatus.COMPLETED
    assert world.store.written <= 5 * world.store.head("s1/writeback.json").size


@pytest.mark.parametrize(("entries", "reads"), [(1, 2), (26, 4), (80, 5)])
def test_a_resume_reads_the_plan_and_few_entries(entries, reads):
    world = World(RunPolicy(attempts=1, journal_interval=0))
    world.remote.script[f"{entries}-create"] = [Meets.UNAVAILABLE]
    assert world.run(*["create"] * (entries + 1)).status is RunStatus.RESUME_NEEDED
    assert read_stored(world.store, "s1").number == entries
    world.store = Counting(world.store)
    assert len(read_stored(world.store, "s1").receipts) == entries - 1
    assert world.store.reads == reads
    assert world.resume().status is RunStatus.COMPLETED
    assert world.remote.requests == [f"{n}-create" for n in (*range(1, entries + 1), entries, entries + 1)]


def parked_after(world, receipts):
    world.policy = RunPolicy(attempts=1, journal_interval=0)
    world.remote.script[f"{receipts + 1}-create"] = [Meets.UNAVAILABLE]
    world.run(*["create"] * (receipts + 2))
    return read_stored(world.store, "s1")


def test_the_receipt_of_an_older_entry_is_found(world):
    session = parked_after(world, 4)
    assert [entry.number for entry in session.entries] == [3, 5]
    assert [len(entry.receipts) for entry in session.entries] == [3, 1]
    assert list(session.receipts) == ["1-create", "2-create", "3-create", "4-create"]


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("gone", "missing from the journal"),
        ("torn", "truncated or altered"),
        ("other plan", "belongs to another plan or place"),
        ("other place", "belongs to another plan or place"),
        ("a circle", "belongs to another plan or place"),
    ],
)
def test_a_damaged_entry_below_the_newest_is_named_and_nothing_is_sent(world, damage, says):
    key = "s1/journal/000003.json"
    parked_after(world, 4)
    entry = decode(world.store.get(key).data, JournalEntry, key=key)
    world.store.delete(key)
    if damage == "torn":
        world.store.put(key, b'{"at": ')
    elif damage != "gone":
        changes = {
            "other plan": {"plan_digest": "0" * 64},
            "other place": {"number": 2},
            "a circle": {"base": 5},
        }
        world.store.put(key, encode_model(entry.model_copy(update=changes[damage])))
    sent = list(world.remote.requests)
    with pytest.raises(CorruptArtifact, match=rf"^{key}: {says}"):
        world.resume()
    assert world.remote.requests == sent


def test_an_entry_after_those_of_version_1_is_whole(world):
    """There each entry held everything, so what has changed since an older one is not known."""
    session = planned_session(world)
    for number in range(2, 6):
        whole = session.entry.model_copy(update={"number": number})
        world.store.put(f"s1/journal/{number:06}.json", encode_model(whole))
    assert resume_session("s1", store=world.store, adapter=world.adapter, clock=world.clock)
    written = {
        info.key[-6:-5]: json.loads(world.store.get(info.key).data).get("base")
        for info in world.store.list("s1/journal/")
    }
    assert written == dict.fromkeys("123456")


def test_the_holder_is_told_once_by_each_run(world):
    session = parked_after(world, 4)
    assert [entry.holder is None for entry in session.entries] == [False, True]
    raw = [json.loads(world.store.get(f"s1/journal/{n:06}.json").data) for n in (1, 2, 3, 4)]
    assert ["holder" in entry for entry in raw] == [True, True, True, False]
    assert [entry.get("base") for entry in raw] == [None, None, None, 3]
    # The newest one is an ending, which no process holds.
    assert session.entry.holder is None
    journal = Journal.of(session, session.plan, world.store, world.clock, lease=60)
    journal.append(Event.CLAIMED)
    claimed = json.loads(world.store.get("s1/journal/000006.json").data)
    assert "holder" in claimed


@pytest.mark.parametrize("remote_id", ["", None, "7"])
def test_an_id_of_the_remote_is_kept_as_it_is(world, remote_id):
    session = planned_session(world)
    journal = Journal.of(session, session.plan, world.store, world.clock, lease=60)
    for outcome, attempts in (("applied", 1), ("assumed", None), ("already_applied", 3)):
        receipt = Receipt(remote_id=remote_id, remote_version=remote_id, outcome=outcome)
        journal.confirm("1-create", receipt, world.clock.now(), attempts)
        journal.append(Event.CONFIRMED)
        assert read_stored(world.store, "s1").receipts["1-create"] == journal.receipts["1-create"]
        stored = journal.receipts["1-create"]
        assert (stored.remote_id, stored.remote_version) == (remote_id, remote_id)
        assert (stored.outcome, stored.attempts) == (outcome, attempts)


def test_an_interrupt_in_the_middle_of_a_change_loses_none():
    """What changes is noted before it does."""

    class Interrupted(dict):
        def pop(self, *args):
            raise KeyboardInterrupt

        __setitem__ = __delitem__ = pop

    changing = ChangingMap()
    changing["1"] = "one"
    position = changing.position
    for change in (lambda: changing.pop("1"), lambda: changing.update({"1": "two"})):
        held, changing._held = changing._held, Interrupted(changing._held)
        with pytest.raises(KeyboardInterrupt):
            change()
        changing._held = held
        assert changing.since(position) == ({"1": "one"}, [])


def test_receipts_are_of_one_type_wherever_they_come_from():
    """In an entry what is usual is left out; callers see it all the same."""
    world = World(RunPolicy(journal_interval=0))
    first = world.run("create", "create").receipts["1-create"]
    again = world.run("create", "create").receipts["1-create"]
    assert first == again
    assert first.model_dump(mode="json").keys() == {
        *("remote_id", "remote_version", "outcome", "confirmed_at", "attempts")
    }
    entry = json.loads(world.store.get("s1/journal/000001.json").data)
    assert entry["receipts"]["1-create"].keys() == {"remote_id", "confirmed_at"}


def test_a_newer_field_that_only_loses_something_is_newer(world):
    parked_after(world, 4)
    key = "s1/journal/000005.json"
    entry = json.loads(world.store.get(key).data) | {"removed": {"zork": ["1"]}}
    del entry["checksum"]
    bare = json.dumps(entry, indent=2, sort_keys=True).encode() + b"\n"
    sealed = json.dumps(entry | {"checksum": "0" * 64}, indent=2, sort_keys=True).encode() + b"\n"
    world.store.delete(key)
    world.store.put(key, sealed.replace(b"0" * 64, hashlib.sha256(bare).hexdigest().encode()))
    with pytest.raises(NewerArtifact, match="upgrade"):
        read_stored(world.store, "s1")
