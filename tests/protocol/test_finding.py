"""What it costs to find sessions beside others: in calls of the store and in memory."""

import os
import tracemalloc
from collections import Counter

import pytest

from tests.support.pruned import AGE, POLICY, completed, days_later, parked
from tests.support.remotes import RemoteAdapter
from writeahead import find_sessions, prune, sweep
from writeahead.protocol.finding import all_sessions
from writeahead.protocol.folders import folders
from writeahead.stores.local import LocalStore
from writeahead.testing import TracingStore

OTHERS = 4


@pytest.fixture(params=["memory", "folder"])
def store(request, store, tmp_path):
    return TracingStore(store if request.param == "memory" else LocalStore(tmp_path))


@pytest.fixture
def calls(store, remote):
    """The verbs and keys of what is asked of a store with two open sessions beside many others."""
    for number in range(OTHERS):
        completed(store, remote, f"done-{number:02d}")
    for name in ("open-a", "open-b"):
        parked(store, remote, name)

    def of(work):
        del store.calls[:]
        work()
        return Counter((call.verb, call.key) for call in store.calls)

    return of


def read(session_id, *names):
    return Counter([("list", f"{session_id}/"), *(("get", f"{session_id}/{name}") for name in names)])


OPEN = read("open-a", "planned-writeback.json", "journal/000002.json") + read(
    "open-b", "planned-writeback.json", "journal/000002.json"
)


def test_open_ones_are_found_through_their_markers(store, calls):
    found = calls(lambda: list(find_sessions(store, "open")))
    assert found == OPEN + Counter([("list", ".open/"), ("list", ".blocked/")])


@pytest.mark.parametrize("state", [None, "completed", "abandoned"])
def test_everything_is_one_listing_and_what_is_not_at_its_end_is_read(store, calls, state):
    found = calls(lambda: list(find_sessions(store, state)))
    finals = Counter({("get", f"done-{number:02d}/writeback.json"): 1 for number in range(OTHERS)})
    assert found - finals == Counter([("list", "")]) + (OPEN if state != "completed" else Counter())
    assert max(found.values()) == 1


def test_a_sweep_that_scans_lists_once(store, remote, calls):
    found = calls(lambda: list(sweep(store, RemoteAdapter(remote), scan=True, policy=POLICY)))
    assert found["list", ""] == 1
    assert {key.split("/")[0] for _, key in found if "done" not in key} >= {"open-a", "open-b"}
    done = Counter({key: count for (verb, key), count in found.items() if "done" in key and verb != "get"})
    assert not done


def test_a_prune_lists_once_and_reads_no_more_than_each_session(store, calls):
    found = calls(lambda: list(prune(store, AGE, dry_run=False, clock=days_later())))
    assert [key for verb, key in found if verb == "list"] == [""]
    assert max(found.values()) == 1


@pytest.mark.skipif(os.environ.get("WRITEAHEAD_TESTS") != "full", reason="takes 10 seconds")
@pytest.mark.parametrize("of", [all_sessions, folders], ids=["all_sessions", "folders"])
def test_many_sessions_in_a_folder_take_100_bytes_a_name(tmp_path, monkeypatch, of):
    monkeypatch.setattr("writeahead.stores.local._PAGE", 500)

    def peak(count):
        root = tmp_path / str(count)
        for number in range(count):
            (root / f"s{number:08d}").mkdir(parents=True)
            for name in ("planned-writeback.json", "writeback.json", "other", "another"):
                (root / f"s{number:08d}" / name).touch()
        store = LocalStore(root)
        assert next(of(store)).session_id == "s00000000"  # whatever is made by the first alone
        tracemalloc.start()
        try:
            assert sum(1 for _ in of(store)) == count
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert (peak(6000) - peak(2000)) / 4000 < 100
