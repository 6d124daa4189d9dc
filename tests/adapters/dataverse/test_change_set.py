"""Atomic sessions from end to end, on a small remote with transactions that fails anywhere."""

import json
import re
from datetime import UTC, datetime

import httpx
import pytest

from tests.adapters.dataverse.webapi.test_batch import error, multipart, part
from writeahead import resume_session, write_back
from writeahead.adapters.dataverse import DataverseAdapter
from writeahead.adapters.dataverse.webapi.protection import Protection
from writeahead.model import BlockReason, Operation, RunPolicy, RunStatus
from writeahead.stores.memory import MemoryStore
from writeahead.testing import ManualClock

QUEUE = "d0000000-0000-4000-8000-000000000001"
POLICY = RunPolicy(attempts=2, wait_initial=0.01)
OPERATIONS = [
    Operation(kind="phone_call_activity", payload={"subject": "a call"}),
    Operation(kind="queue_status_update", payload={"row_id": QUEUE, "status": "needs_review", "attempts": 2}),
    Operation(kind="task", payload={"subject": "a task"}),
    Operation(kind="queue_status_update", payload={"row_id": QUEUE, "status": "completed", "attempts": 2}),
]
DONE = {RunStatus.COMPLETED, RunStatus.NO_RESUME_NEEDED}


class Remote:
    """Rows with versions; a change set changes all or none. ``faults`` has one a request."""

    def __init__(self):
        self.rows = {
            QUEUE: {"wa_callqueueid": QUEUE, "statecode": 0, "wa_status": 100000000, "wa_attempts": 1}
        }
        self.versions, self.version, self.faults, self.applied, self.edit = {QUEUE: 1}, 1, {}, [], None
        self.count = 0

    def handle(self, request):
        fault, self.count = self.faults.get(self.count), self.count + 1
        if fault == "refused":
            raise httpx.ConnectError("planted", request=request)
        if fault in {400, 429, 500, 503}:
            return httpx.Response(fault, json={"error": {"code": ""}}, headers={"Retry-After": "5"})
        answer = self._batch(request) if request.method == "POST" else self._read(request)
        if fault == "lost":
            raise httpx.ReadError("planted", request=request)
        if fault == "cut":
            return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content[:-40])
        return answer

    def _read(self, request):
        row_id = request.url.path.rpartition("(")[2].rstrip(")")
        if row_id not in self.rows:
            return httpx.Response(404, json={"error": {"code": "0x80040217"}})
        select = request.url.params.get("$select")
        blank = dict.fromkeys(select.split(",")) if select else {}
        etag = f'W/"{self.versions[row_id]}"'
        known = {"activityid": row_id} if row_id != QUEUE else {}
        return httpx.Response(200, json={"@odata.etag": etag, **blank, **known, **self.rows[row_id]})

    def _batch(self, request):
        if self.edit:
            self.edit()
            self.edit = None
        rows, versions, version = {**self.rows}, {**self.versions}, self.version
        parts = re.findall(
            r"PATCH \S+\(([-0-9a-f]+)\) HTTP/1.1\r\n(.*?)\r\n\r\n({[^\r]*})",
            request.content.decode(),
            re.DOTALL,
        )
        answers = []
        for number, (row_id, head, body) in enumerate(parts, start=1):
            match = re.search(r"If-Match: (\S+)", head)
            taken = "If-None-Match: *" in head and row_id in rows
            stale = match and match[1] not in {"*", f'W/"{versions.get(row_id)}"'}
            if taken or stale or (match and row_id not in rows):
                return _mixed([part(412, error("0x80060882"), number=number)])
            version += 1
            made = {"createdon": datetime.now(UTC).isoformat()}
            rows[row_id] = {**rows.get(row_id, made), **json.loads(body)}
            versions[row_id] = version
            answers.append(part(204, number=number, ETag=f'W/"{version}"'))
        self.rows, self.versions, self.version = rows, versions, version
        self.applied.append([row_id for row_id, *_ in parts])
        inner = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + multipart(answers, b"b")
        return _mixed([inner])


def _mixed(parts):
    headers = {"Content-Type": "multipart/mixed; boundary=a"}
    return httpx.Response(200, headers=headers, content=multipart(parts, b"a"))


@pytest.fixture
def remote():
    return Remote()


class Session:
    def __init__(self, remote):
        self.clock, self.store = ManualClock(), MemoryStore()
        self.adapter = DataverseAdapter(
            "https://planted.crm.dynamics.com",
            lambda: "planted-token",
            transport=httpx.MockTransport(remote.handle),
            readiness="off",
            protection=Protection(monotonic=self.clock.monotonic),
        )

    def means(self):
        return {"store": self.store, "adapter": self.adapter, "policy": POLICY, "clock": self.clock}

    def write(self):
        return write_back(OPERATIONS, session_id="s", atomic=True, **self.means())

    def resume(self):
        self.clock.sleep(3600)
        return resume_session("s", **self.means())


def test_a_session_in_one_request(remote):
    report = Session(remote).write()
    assert report.status is RunStatus.COMPLETED, report.error
    assert len(remote.applied) == 1
    assert len(remote.rows) == 3
    assert remote.rows[QUEUE]["wa_status"] == 100000002
    assert remote.rows[QUEUE]["wa_lastoperation"] == "4-queue_status_update"


@pytest.mark.parametrize("fault", ["refused", "lost", "cut", 400, 429, 500, 503])
@pytest.mark.parametrize("times", [1, 2, 5])
@pytest.mark.parametrize("first", [1, 2, 3])
def test_whatever_breaks_it_is_applied_once_and_as_a_whole(remote, fault, times, first):
    """Request 0 reads the baseline; what follows are change sets and read-backs."""
    session = Session(remote)
    remote.faults = dict.fromkeys(range(first, first + times), fault)
    if first > 1:
        remote.faults[1] = "lost"
    report = session.write()
    assert len(remote.applied) <= 1
    remote.faults = {}
    if report.status is RunStatus.BLOCKED:
        assert fault == 400
        assert report.block_reason is BlockReason.REJECTED
        return
    if report.status not in DONE:
        report = session.resume()
    assert report.status in DONE, report.error
    assert len(remote.applied) == 1
    assert len(remote.rows) == 3


@pytest.mark.parametrize("lost", [False, True])
@pytest.mark.parametrize("guarded", [False, True])
def test_a_person_is_faster(remote, guarded, lost):
    def edit():
        remote.version += 1
        remote.versions[QUEUE] = remote.version
        remote.rows[QUEUE].update({"wa_attempts": 9} if guarded else {"wa_name": "Ada"})

    session = Session(remote)
    remote.edit = edit
    remote.faults = {1: "lost"} if lost else {}
    report = session.write()
    if guarded:
        assert (report.status, report.block_reason) == (RunStatus.BLOCKED, BlockReason.CONFLICT_DETECTED)
        assert "wa_attempts" in report.error
        assert remote.applied == []
        assert list(remote.rows) == [QUEUE]
        assert remote.rows[QUEUE]["wa_attempts"] == 9
    else:
        assert report.status is RunStatus.COMPLETED, report.error
        assert len(remote.applied) == 1
        assert remote.rows[QUEUE]["wa_name"] == "Ada"


def test_a_person_who_comes_after_a_lost_reply_loses_nothing(remote):
    session = Session(remote)
    remote.faults = {1: "lost", 2: 503}
    assert session.write().status is RunStatus.RESUME_NEEDED
    remote.version += 1
    remote.versions[QUEUE] = remote.version
    remote.rows[QUEUE]["wa_attempts"] = 9
    assert session.resume().status in DONE
    assert len(remote.applied) == 1
    assert remote.rows[QUEUE]["wa_attempts"] == 9
