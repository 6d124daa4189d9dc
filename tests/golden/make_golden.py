"""Makes golden sessions by real runs; refuses to touch a folder that exists.

    PYTHONPATH=. python tests/golden/make_golden.py tests/golden/v2

What is there stays forever, to be resumed by later versions. Make a new folder for a new version of
the format, or for new fields of an artifact (as ``v1-atomic``, ``v2-deltas``, ``v3-pruned``). The
folder's name begins the id of each session, as in ``v2-parked``, so that no two folders have
sessions of one name. ``test_golden`` finds the folder by itself. ``expected.json`` holds what the
remote had applied by then, and SHA256SUMS what the bytes are.
"""

import contextlib
import hashlib
import json
import os
import socket
import sys
from datetime import timedelta
from pathlib import Path

from tests.support.invariants import hours_later
from tests.support.remotes import (
    ALL,
    Meets,
    Remote,
    RemoteAdapter,
    TransactionalRemoteAdapter,
    found_out,
    operations,
)
from writeahead import RunPolicy, prune, resume_session, write_back
from writeahead.protocol import liveness
from writeahead.protocol.sweep import sweep
from writeahead.protocol.unblocking import abandon_session, unblock_session
from writeahead.stores.local import LocalStore
from writeahead.testing import WrapperStore

KINDS = ("create", "upsert", "update", "lookup", "mail")
ONCE = RunPolicy(attempts=1, clock_skew=0, run_limit=3000, journal_interval=0)
IDS = [f"{number}-{kind}" for number, kind in enumerate(KINDS, start=1)]


class Mortal(RemoteAdapter):
    """Ends its process at an operation; before that, it writes to a file what it applied."""

    def __init__(self, remote: Remote, dies_at: str, path: Path) -> None:
        super().__init__(remote)
        self._dies_at, self._path = dies_at, path

    def emit(self, operation):
        if operation.id == self._dies_at:
            self._path.write_text(json.dumps(self.remote.effects))
            os._exit(0)
        return super().emit(operation)


class Maker:
    """One folder with one session, and what the remote had applied."""

    def __init__(self, root: Path, session_id: str) -> None:
        self.id = session_id
        self.store = LocalStore(root / session_id)
        self.remote = Remote()
        self.effects_file = root / "effects"
        self.independent = False

    def run(self, policy: RunPolicy = ONCE, *, dies_at: str = "", **script: list[Meets]) -> None:
        self.remote.script = {next(name for name in IDS if kind in name): met for kind, met in script.items()}
        self._maybe_in_a_child(dies_at, lambda adapter: self._write(adapter, policy))

    def resume(self, *, dies_at: str = "", hours: float = 1) -> None:
        self._maybe_in_a_child(dies_at, lambda adapter: self._resume(adapter, hours))

    def _write(self, adapter: RemoteAdapter, policy: RunPolicy) -> None:
        asked = [one | {"independent": self.independent} for one in operations(*KINDS)]
        write_back(asked, session_id=self.id, store=self.store, adapter=adapter, policy=policy)

    def _resume(self, adapter: RemoteAdapter, hours: float) -> None:
        resume_session(self.id, store=self.store, adapter=adapter, policy=ONCE, clock=hours_later(hours))

    def _maybe_in_a_child(self, dies_at: str, work) -> None:
        if not dies_at:
            work(RemoteAdapter(self.remote))
            return
        pid = os.fork()
        if pid == 0:
            work(Mortal(self.remote, dies_at, self.effects_file))
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        self.remote.effects = json.loads(self.effects_file.read_text())
        self.effects_file.unlink()

    def unblock(self, **assume: bool) -> None:
        unblock_session(
            self.id,
            store=self.store,
            reason="looked it up",
            assume={
                next(name for name in IDS if kind in name): found_out(was) for kind, was in assume.items()
            },
        )


def make(root: Path) -> dict[str, list[str]]:
    effects = {}

    @contextlib.contextmanager
    def session(name: str):
        maker = Maker(root, f"{root.name}-{name}")
        yield maker
        effects[maker.id] = maker.remote.effects

    with session("final") as it:
        it.run()
    with session("parked") as it:
        it.run(update=[Meets.UNAVAILABLE])
    with session("parked-batched") as it:
        it.run(ONCE.model_copy(update={"journal_interval": 3600}), update=[Meets.UNAVAILABLE])
    with session("parked-lookup-unknown") as it:
        it.run(lookup=[Meets.LOST_REPLY])
    with session("parked-retry-after") as it:
        it.run(create=[Meets.RETRY_AFTER])
    with session("blocked-conflict") as it:
        it.run(update=[Meets.CONFLICT])
    with session("blocked-rejected") as it:
        it.run(upsert=[Meets.REJECTED])
    with session("blocked-unknown") as it:
        it.run(mail=[Meets.LOST_REPLY])
    with session("unblocked") as it:
        it.run(update=[Meets.CONFLICT])
        it.unblock()
    with session("unblocked-assumed") as it:
        it.run(mail=[Meets.LOST_REPLY])
        it.unblock(mail=True)
    with session("in-progress-planned") as it:
        it.run(dies_at="1-create")
    with session("in-progress") as it:
        it.run(dies_at="3-update")
    with session("in-progress-announced") as it:
        it.run(dies_at="5-mail")
    with session("in-progress-claimed") as it:
        it.run(update=[Meets.UNAVAILABLE])
        it.resume(dies_at="3-update")
    with session("abandoned") as it:
        it.store.put(f".open/{it.id}", b"")
        list(sweep(it.store, RemoteAdapter(it.remote), policy=ONCE, clock=hours_later(1)))
    with session("given-up") as it:
        it.run(update=[Meets.UNAVAILABLE])
        abandon_session(it.id, store=it.store, reason="done by hand")
    with session("renewed") as it:
        it.run(upsert=[Meets.REJECTED])
        unblock_session(it.id, store=it.store, reason="it replays", new_keys=["2-upsert"])
    with session("marker-only") as it:
        it.store.put(f".open/{it.id}", b"")
    with session("dry-run") as it:
        write_back(
            operations(*KINDS),
            session_id=it.id,
            store=it.store,
            adapter=RemoteAdapter(it.remote),
            dry_run=True,
        )
    return effects


class Warner(TransactionalRemoteAdapter):
    """Gives each plan a warning."""

    def plan(self, operations):
        planned = super().plan(operations)
        return [planned[0].model_copy(update={"warnings": ("an odd number",)}), *planned[1:]]


def make_atomic(root: Path) -> dict[str, list[str]]:
    """Transactions, and plans with warnings."""
    effects = {}
    for name, kinds, meets, atomic in (
        ("atomic-unknown", KINDS[:3], {ALL: [Meets.LOST_REPLY]}, True),
        ("atomic-parked", KINDS[:3], {ALL: [Meets.UNAVAILABLE]}, True),
        ("atomic-blocked", KINDS[:3], {ALL: [Meets.CONFLICT]}, True),
        ("atomic-final", KINDS[:3], {}, True),
        ("warned-parked", KINDS, {"3-update": [Meets.UNAVAILABLE]}, False),
    ):
        remote, session_id = Remote(script=meets), f"{root.name}-{name}"
        means = {"store": LocalStore(root / session_id), "adapter": Warner(remote), "policy": ONCE}
        write_back(operations(*kinds), session_id=session_id, atomic=atomic, **means)
        effects[session_id] = remote.effects
    return effects


def make_deltas(root: Path) -> dict[str, list[str]]:
    """Journals long enough that the newest entry builds on an older one."""
    effects = {}
    for name, failures, met, dies_at in (
        ("parked", 2, [Meets.UNAVAILABLE], ""),
        ("in-progress", 3, [], "3-update"),
        ("blocked-conflict", 2, [Meets.CONFLICT], ""),
    ):
        it = Maker(root, f"{root.name}-{name}")
        it.run(upsert=[Meets.UNAVAILABLE] * failures, update=list(met))
        for turn in range(1, failures + 1):
            it.resume(hours=turn * 2, dies_at=dies_at if turn == failures else "")
        effects[it.id] = it.remote.effects
    return effects


def make_independent(root: Path) -> dict[str, list[str]]:
    """Independent operations that stopped at two places, and some whose owner died."""
    effects = {}
    for name, met, dies_at in (
        ("two-stops", {"upsert": [Meets.REJECTED], "lookup": [Meets.UNAVAILABLE]}, ""),
        ("two-blocked", {"upsert": [Meets.REJECTED], "mail": [Meets.LOST_REPLY]}, ""),
        ("dead-among-others", {}, "4-lookup"),
    ):
        it = Maker(root, f"{root.name}-{name}")
        it.independent = True
        it.run(dies_at=dies_at, **met)
        effects[it.id] = it.remote.effects
    return effects


def make_pruned(root: Path) -> dict[str, list[str]]:
    """Sessions that were pruned, and one whose prune was killed after the tombstone."""
    effects = {}
    for name in ("gone", "gone-abandoned", "gone-halfway"):
        it = Maker(root, f"{root.name}-{name}")
        it.run(update=[Meets.UNAVAILABLE] if name == "gone-abandoned" else [])
        if name == "gone-abandoned":
            abandon_session(it.id, store=it.store, reason="not wanted any more")
        store = DiesAfterTheTombstone(it.store) if name == "gone-halfway" else it.store
        with contextlib.suppress(KeyboardInterrupt):
            list(prune(store, timedelta(hours=1), dry_run=False, clock=hours_later(2)))
        effects[it.id] = it.remote.effects
    return effects


class DiesAfterTheTombstone(WrapperStore):
    def _around(self, verb, key, call):
        if key.endswith("/pruned"):
            raise KeyboardInterrupt
        return call()


def main() -> None:
    root = Path(sys.argv[1])
    root.mkdir()
    # Of a machine that no test runs on: else its dead processes would be known to be dead.
    liveness._boot_id = lambda: "golden"
    socket.gethostname = lambda: "golden"
    of = {
        "atomic": make_atomic,
        "deltas": make_deltas,
        "independent": make_independent,
        "pruned": make_pruned,
    }
    expected = of.get(root.name.rpartition("-")[2], make)(root)
    (root / "expected.json").write_text(json.dumps(expected, indent=2) + "\n")
    sums = "".join(
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(root)}\n"
        for path in sorted(root.rglob("*"))
        if path.is_file()
    )
    (root / "SHA256SUMS").write_text(sums)


if __name__ == "__main__":
    main()
