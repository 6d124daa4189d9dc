"""What must hold of a session at any moment: bytes in the store, effects at the remote."""

import json
import shutil
from pathlib import Path

from tests.support.journals import whole
from tests.support.reference_remote import KEYS, ReferenceAdapter
from tests.support.remotes import found_out
from writeahead import ArtifactStore, RunPolicy, open_store, resume_session
from writeahead.model import BlockReason, RunReport, RunStatus
from writeahead.protocol.finding import find_sessions, unfinished_sessions
from writeahead.protocol.sweep import sweep
from writeahead.protocol.unblocking import unblock_session
from writeahead.stores.memory import MemoryStore
from writeahead.testing import ManualClock

POLICY = RunPolicy(clock_skew=0, wait_initial=0, journal_interval=0)
PLAN, FINAL, MARKERS = "s1/planned-writeback.json", "s1/writeback.json", (".open/s1", ".blocked/s1")
JOURNAL = "s1/journal/"


def hours_later(hours: float = 0.0) -> ManualClock:
    """The clock of an operator who comes some hours from now. Its sleeps end at once."""
    clock = ManualClock()
    clock.advance(hours * 3600)
    return clock


class Folder:
    """A local store's bytes, read around it."""

    def __init__(self, path: Path) -> None:
        self.path, self.url = path, path.as_uri()

    def open(self) -> ArtifactStore:
        return open_store(self.url)

    def objects(self) -> dict[str, bytes]:
        return {
            str(file.relative_to(self.path)): file.read_bytes()
            for file in sorted(self.path.rglob("*"))
            if file.is_file() and "~" not in file.name
        }

    def copy(self, other: "Folder") -> None:
        """Become a copy, modes of folders included."""
        shutil.copytree(other.path, self.path)


_FIRST: dict[str, ArtifactStore] = {}


class Bucket:
    """A bucket's bytes, read around the store."""

    def __init__(self, raw) -> None:
        self.raw = raw
        self.url = f"s3://{raw.name}/{raw.prefix}?endpoint_url={raw.server}".replace("/?", "?")

    def open(self) -> ArtifactStore:
        store = open_store(self.url)
        # Making a client takes longer than a session: all stores on one endpoint share theirs here.
        store._clients = _FIRST.setdefault(self.url.split("?")[1], store)._clients
        return store

    def objects(self) -> dict[str, bytes]:
        return {key: self.raw.read(key) for key in self.raw.keys()}  # noqa: SIM118 - no dict

    def copy(self, other: "Bucket") -> None:
        for key, data in other.objects().items():
            self.raw.write(key, data)


class Memory:
    """A memory store's bytes, read around it."""

    def __init__(self) -> None:
        self.store = MemoryStore()

    def open(self) -> ArtifactStore:
        return self.store

    def objects(self) -> dict[str, bytes]:
        return {key: held.data for key, held in self.store._objects.items()}


class Invariants:
    """Compares what it sees with what it saw, after each phase."""

    def __init__(self, place, remote) -> None:
        self.place, self.remote = place, remote
        self.seen: dict[str, bytes] = {}

    def look(self) -> dict[str, bytes]:
        """Check all that must hold at any moment; return what is there."""
        now = self.place.objects()
        for key, data in self.seen.items():
            if not key.startswith("."):  # markers come and go
                assert now.get(key) == data, f"{key} changed or went"
        self.seen |= now
        counts = self.remote.counts()
        assert max(counts.values()) <= 1, counts
        if FINAL in now:
            assert set(counts.values()) == {1}, counts
            assert len(json.loads(now[FINAL])["operations"]) == len(KEYS)
        elif PLAN in now and json.loads(now[PLAN])["format"] == "writeahead/planned-writeback":
            assert any(key in now for key in MARKERS), "it can't be found any more"
        if PLAN not in now:
            assert not any(counts.values()), counts
        self._check_journal(now)
        return now

    def _check_journal(self, now: dict[str, bytes]) -> None:
        journal = [json.loads(data) for key, data in sorted(now.items()) if key.startswith(JOURNAL)]
        entries, known = {entry["number"]: entry for entry in journal}, set()
        # One that is missing is for the code under test to find out.
        for number in sorted(entries) if len(entries) == max(entries, default=0) else ():
            receipts = whole(entries, number)["receipts"].keys()
            assert known <= receipts, f"entry {number} has lost a receipt"
            known |= receipts
        if journal and journal[-1].get("status") == "blocked":
            assert journal[-1]["block_reason"], "it does not say why"
            assert journal[-1]["error"], "it does not say why"
        announced = sum(entry["event"] == "sending" for entry in journal)
        assert self.remote.requests.count("POST mail") <= announced, "a mail was sent without an entry"


def recover(place, remote, invariants: Invariants, hours: float, adapter: ReferenceAdapter) -> str:
    """Bring a session to its end as a sweep and a truthful person would, checking all the way.

    Returns:
        What the first resume came to: a status, and a reason if it was blocked.
    """
    store = place.open()
    means = {"store": store, "adapter": adapter, "policy": POLICY}
    there = invariants.look()
    if PLAN not in there:
        # A run that died in a tombstone's place leaves .blocked/: see test_interleavings.py.
        left = {MARKERS[1]} & there.keys()
        list(sweep(clock=hours_later(hours), **means))
        there = invariants.look()
        assert not any(remote.counts().values())
        assert {key for key in there if key in MARKERS} == left
        return "nothing planned"
    if FINAL not in there:
        assert "s1" in unfinished_sessions(store)
        assert "s1" in [found.session_id for found in find_sessions(store)]
    report = resume_session("s1", clock=hours_later(hours), **means)
    outcome = f"{report.status} {report.block_reason or ''}".strip()
    for turn in range(1, len(KEYS) + 1):
        invariants.look()
        if report.status is not RunStatus.BLOCKED:
            break
        decide(report, remote, store)
        invariants.look()
        report = resume_session("s1", clock=hours_later(hours + turn), **means)
    assert report.status in (RunStatus.COMPLETED, RunStatus.NO_RESUME_NEEDED), report
    there = invariants.look()
    assert FINAL in there
    assert not any(key in there for key in MARKERS)
    return outcome


def decide(report: RunReport, remote, store: ArtifactStore) -> None:
    """Be the person that a blocked session waits for."""
    assert report.error, "it does not say why"
    assert report.block_reason, "it does not say why"
    assume = {}
    if report.block_reason is BlockReason.OUTCOME_UNKNOWN:
        # The one thing that can't be known here: whether the e-mail, once announced, went out.
        assert report.operation == "5-mail"
        assert {count for kind, count in remote.counts().items() if kind != "mail"} == {1}
        assume = {"5-mail": found_out(remote.counts()["mail"] == 1)}
    unblock_session("s1", store=store, reason="I asked", assume=assume)
