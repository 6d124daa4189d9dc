"""Sessions for workers of engines, the remote that they write to, and what must be true of both."""

import json
import os
from collections import Counter

from tests.support.reference_remote import ReferenceAdapter
from tests.support.remotes import operations
from writeahead import RunPolicy, open_store, write_back
from writeahead.errors import Applied, TransientError
from writeahead.model import RunStatus, idempotency_key

ADAPTER = "tests.support.engines:WorkerAdapter"
KINDS = ("create", "create", "mail")


class WorkerAdapter(ReferenceAdapter):
    """Tells the remote which process sends: so the remote knows whom to kill."""

    def _exchange(self, method, operation, headers, body):
        who = {"X-Pid": str(os.getpid()), "X-Worker": os.environ.get("TEST_WORKER", "")}
        return super()._exchange(method, operation, headers | who, body)


class DownAdapter(ReferenceAdapter):
    """Reaches nothing, so that its session is parked."""

    def _exchange(self, method, operation, headers, body):
        raise TransientError("PUT /create: 503", applied=Applied.NO)


def park(folder, url, names, kinds=KINDS):
    """Make sessions that need a resume, in a store that is a folder."""
    adapter = DownAdapter(url)
    for name in names:
        report = write_back(
            operations(*kinds),
            session_id=name,
            store=open_store(folder),
            adapter=adapter,
            policy=RunPolicy(attempts=1),
        )
        assert report.status is RunStatus.RESUME_NEEDED
    adapter.close()


def judge(folder, remote, names, *, most_blocked, kinds=KINDS):
    """Nothing is lost, nothing is doubled; what can't be known waits for an operator.

    It reads the store's files and the remote's own counts. Returns how many sessions are blocked.
    """
    blocked = 0
    for name in names:
        counts = [remote.effects[idempotency_key(name, f"{n}-{kind}")] for n, kind in enumerate(kinds, 1)]
        assert max(counts) <= 1, f"{name}: doubled: {counts}"
        if (folder / name / "writeback.json").exists():
            assert counts == [1] * len(kinds), f"{name}: lost: {counts}"
            continue
        entries = sorted((folder / name / "journal").glob("*.json"))
        last = json.loads(entries[-1].read_bytes())
        assert (last["status"], last["block_reason"]) == ("blocked", "outcome_unknown"), last
        assert counts[:2] == [1, 1]
        blocked += 1
    assert blocked <= most_blocked
    assert set(Counter(remote.effects).values()) == {1}
    return blocked
