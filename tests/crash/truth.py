"""What must hold of a session at any moment, seen from outside: bytes in the store, effects at the remote."""

import json
from pathlib import Path

from forker import Ahead

from five_kinds import KEYS, FiveKinds
from writeahead import RunPolicy, open_store, resume_session
from writeahead.model import BlockReason, RunStatus
from writeahead.runner import unblock_session
from writeahead.sweep import find_sessions, sweep, unfinished_sessions

POLICY = RunPolicy(clock_skew=0, wait_initial=0)
PLAN, FINAL, MARKERS = "s1/planned-writeback.json", "s1/writeback.json", (".open/s1", ".blocked/s1")


class Folder:
    """A local store's bytes, read around it."""

    def __init__(self, path: Path) -> None:
        self.path, self.url = path, path.as_uri()

    def objects(self) -> dict[str, bytes]:
        return {
            str(file.relative_to(self.path)): file.read_bytes()
            for file in sorted(self.path.rglob("*"))
            if file.is_file() and "~" not in file.name
        }


class Bucket:
    """A bucket's bytes, read around the store."""

    def __init__(self, raw) -> None:
        self.raw = raw
        self.url = f"s3://{raw.name}?endpoint_url={raw.server}"

    def objects(self) -> dict[str, bytes]:
        return {key: self.raw.read(key) for key in self.raw.keys()}  # noqa: SIM118 - no dict


class Witness:
    """Compares what it sees with what it saw, after each phase."""

    def __init__(self, place, remote) -> None:
        self.place, self.remote = place, remote
        self.seen: dict[str, bytes] = {}

    def look(self) -> dict[str, bytes]:
        """Check all that must hold at any moment; return what is there."""
        now = self.place.objects()
        for key, data in self.seen.items():
            if key not in MARKERS:
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
        return now


def recover(place, remote, witness: Witness, hours: float, adapter: FiveKinds) -> str:
    """Bring a session to its end as a sweep and a truthful person would, checking all the way."""
    store = open_store(place.url)
    means = {"store": store, "adapter": adapter, "policy": POLICY}
    there = witness.look()
    if PLAN not in there:
        list(sweep(clock=Ahead(hours), **means))
        there = witness.look()
        assert not remote.requests
        assert not any(key in there for key in MARKERS)
        return "nothing planned"
    if FINAL not in there:
        assert list(unfinished_sessions(store)) == ["s1"]
        assert [found.session_id for found in find_sessions(store)] == ["s1"]
    report = resume_session("s1", clock=Ahead(hours), **means)
    witness.look()
    outcome = str(report.status)
    if report.status is RunStatus.BLOCKED:
        # The one thing that can't be known here: whether the e-mail, once announced, went out.
        assert report.block_reason is BlockReason.OUTCOME_UNKNOWN
        assert report.error
        assert report.operation == "5-mail"
        assert {count for kind, count in remote.counts().items() if kind != "mail"} == {1}
        went_out = remote.counts()["mail"] == 1
        unblock_session("s1", store=store, reason="I asked", assume={"5-mail": went_out})
        witness.look()
        report = resume_session("s1", clock=Ahead(hours + 1), **means)
    assert report.status in (RunStatus.COMPLETED, RunStatus.NO_RESUME_NEEDED), report.error
    there = witness.look()
    assert FINAL in there
    assert not any(key in there for key in MARKERS)
    return outcome
