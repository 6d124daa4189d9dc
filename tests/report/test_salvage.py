"""A session whose artifacts are damaged: what still reads, and what to do."""

import json

import pytest

from tests.support.remotes import Meets
from tests.support.worlds import World
from writeahead import RunPolicy
from writeahead.model import RunStatus
from writeahead.report.page import read_page
from writeahead.stores.memory import MemoryStore

KINDS = ("create", "create", "create", "mail", "create")
PLAN = "s1/planned-writeback.json"


def entry(number):
    return f"s1/journal/{number:06}.json"


@pytest.fixture
def world():
    """Three receipts; an e-mail's announcement, which carries the third; its unknown outcome."""
    world = World(RunPolicy(attempts=1, journal_interval=0))
    world.remote.script["4-mail"] = [Meets.LOST_REPLY]
    assert world.run(*KINDS).status is RunStatus.BLOCKED
    assert [name for name in world.names() if "journal" in name] == [entry(n) for n in (1, 2, 3, 4)]
    return world


def alter(world, key, change=lambda data: data.replace(b"create", b"creats", 1)):
    data = world.store.get(key).data
    changed = change(data)
    assert changed != data
    world.store.put(key, changed)


def truncate(data):
    return data[: len(data) // 2]


def page_of(world):
    return read_page(world.store, "s1", now=world.clock.now(), clock_skew=0)


def states(page):
    return {line.id: line.state for line in page.operations}


def damaged(page):
    return {line.key: line.problem for line in page.artifacts if line.problem}


def test_an_undamaged_session_has_no_way_out(world):
    page = page_of(world)
    assert (page.problem, page.way_out, damaged(page)) == (None, (), {})
    assert states(page) == {
        "1-create": "confirmed",
        "2-create": "confirmed",
        "3-create": "confirmed",
        "4-mail": "attempted",
        "5-create": "missing",
    }


@pytest.mark.parametrize("change", [truncate, lambda data: data.replace(b"mail", b"male", 1), lambda _: b""])
def test_a_damaged_plan_leaves_the_receipts(world, change):
    alter(world, PLAN, change)
    page = page_of(world)
    assert page.status is None
    assert page.problem.startswith(f"{PLAN}: ")
    assert list(damaged(page)) == [PLAN]
    assert states(page) == {
        **dict.fromkeys(("1-create", "2-create", "3-create"), "confirmed"),
        "4-mail": "attempted",
    }
    assert page.operations[0].receipt.remote_id
    assert (page.operations[0].kind, page.operations[0].replay) == (None, None)
    assert [found.number for found in page.history] == [1, 2, 3, 4]
    assert page.error == "POST /rows: connection reset"


def test_a_damaged_newest_entry_leaves_the_one_before(world):
    alter(world, entry(4), truncate)
    page = page_of(world)
    assert list(damaged(page)) == [entry(4)]
    assert (page.adapter, page.status) == ("remote", None)
    # What the newest would say of the last operation is lost, so no one knows that it was not sent.
    assert states(page) == {
        "1-create": "confirmed",
        "2-create": "confirmed",
        "3-create": "confirmed",
        "4-mail": "attempted",
        "5-create": "attempted",
    }
    by_id = {line.id: line for line in page.operations}
    assert by_id["4-mail"].attempted_at
    assert by_id["5-create"].attempted_at is None


def test_an_entry_that_others_build_on_takes_them_along(world):
    # The fourth builds on the third, which is whole: see `writeahead.protocol.deltas`.
    assert world.json(entry(4))["base"] == 3
    alter(world, entry(3), truncate)
    page = page_of(world)
    assert [found.number for found in page.history] == [1, 2, 4]
    assert states(page)["2-create"] == "confirmed"
    assert page.problem.startswith(entry(3))


def test_an_old_entry_that_is_not_needed_is_named_and_stops_nothing(world):
    alter(world, entry(1), truncate)
    page = page_of(world)
    assert (page.problem, page.way_out, page.status) == (None, (), RunStatus.BLOCKED)
    assert list(damaged(page)) == [entry(1)]


def test_a_missing_entry_and_a_missing_plan_are_listed(world):
    world.store.delete(entry(2))
    page = page_of(world)
    assert damaged(page) == {entry(2): f"{entry(2)}: missing: it was removed"}
    assert [line.size for line in page.artifacts if line.problem] == [None]
    world.store.delete(PLAN)
    page = page_of(world)
    assert sorted(damaged(page)) == [entry(2), PLAN]
    assert states(page)["1-create"] == "confirmed"
    assert PLAN in page.way_out[0]


def test_an_entry_of_another_place_or_plan_is_not_believed(world):
    kept = world.store.get(entry(4)).data
    world.store.put(entry(4), world.store.get(entry(3)).data)
    page = page_of(world)
    assert "belongs to another place" in damaged(page)[entry(4)]
    world.store.put(entry(4), kept)
    # The plan of a session with the same id, and other operations.
    other = World(RunPolicy(attempts=1))
    other.run("create")
    world.store.put(PLAN, other.store.get(PLAN).data)
    page = page_of(world)
    assert "belongs to another plan" in page.problem
    assert "belongs to another plan" in damaged(page)[entry(4)]
    assert entry(4) in page.way_out[0]
    assert states(page) == {"1-create": "attempted"}


def test_a_damaged_final_still_says_that_all_was_confirmed():
    world = World(RunPolicy(journal_interval=0))
    world.run("create", "create")
    alter(world, "s1/writeback.json", truncate)
    page = page_of(world)
    assert page.problem.startswith("s1/writeback.json: ")
    assert states(page) == {"1-create": "confirmed", "2-create": "attempted"}
    assert page.way_out[0].startswith("s1/writeback.json is created only when every operation has a receipt")
    # Without its plan and journal, which a final does not need, it is complete.
    world.run("create", session_id="s2")
    world.store.delete("s2/planned-writeback.json")
    page = read_page(world.store, "s2", now=world.clock.now(), clock_skew=0)
    assert (page.status, page.problem, damaged(page)) == (RunStatus.COMPLETED, None, {})


def test_the_way_out_names_what_to_restore_and_what_not_to_do(world):
    alter(world, PLAN, truncate)
    restore, by_hand, leave = page_of(world).way_out
    assert PLAN in restore
    assert ".open/s1" in by_hand
    assert ".blocked/s1" in by_hand
    assert "never use the id again" in leave


def test_what_was_restored_goes_on(world):
    """The first step of the way out, taken."""
    kept = world.store.get(PLAN).data
    alter(world, PLAN, truncate)
    assert page_of(world).problem
    world.store.put(PLAN, kept)
    assert (page_of(world).problem, page_of(world).status) == (None, RunStatus.BLOCKED)


def test_what_a_newer_version_wrote_is_no_damage(world):
    document = world.json(entry(4)) | {"version": 99}
    world.store.put(entry(4), json.dumps(document).encode())
    page = page_of(world)
    (step,) = page.way_out
    assert step.startswith("upgrade")


def test_foreign_files_are_no_artifacts(world):
    world.store.put("s1/notes.txt", b"ours? no")
    world.store.put("s1/journal/README.md", b"nor this")
    page = page_of(world)
    assert (page.problem, damaged(page)) == (None, {})
    assert {"s1/notes.txt", "s1/journal/README.md"} <= {line.key for line in page.artifacts}


def test_nothing_is_written_by_reading(world):
    alter(world, PLAN, truncate)
    before = {name: world.store.get(name).data for name in world.names()}

    class ReadOnly(MemoryStore):
        def _put(self, name, data, *, if_absent):
            raise AssertionError(name)

        def _delete(self, key):
            raise AssertionError(key)

    read_only = ReadOnly()
    for name, data in before.items():
        MemoryStore._put(read_only, name, data, if_absent=True)
    world.store = read_only
    assert page_of(world).problem
