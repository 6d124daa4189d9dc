"""Atomic sessions on SAP CAP: change sets on an OData v4 server that others wrote.

For ``nox -s peers``. One thing is translated for it: in a batch it takes paths relative to the
service alone, where OData allows absolute ones, and Dataverse documents those.
"""

import sqlite3
import uuid
from contextlib import closing

import httpx
import pytest

from tests.peers.cap_server import API, running_cap
from writeahead import resume_session, write_back
from writeahead.adapters.dataverse import DataverseAdapter
from writeahead.model import BlockReason, Operation, RunPolicy, RunStatus
from writeahead.stores.memory import MemoryStore
from writeahead.testing import HttpProxy
from writeahead.testing.http_proxy import lost_reply

POLICY = RunPolicy(attempts=1)
DONE = {RunStatus.COMPLETED, RunStatus.NO_RESUME_NEEDED}


class RelativePaths(httpx.HTTPTransport):
    """The network, with the paths in a batch made relative."""

    def handle_request(self, request):
        if request.url.path.endswith("/$batch"):
            content = request.content.replace(f"PATCH {API}/".encode(), b"PATCH /")
            headers = {**request.headers, "content-length": str(len(content))}
            request = httpx.Request(request.method, request.url, headers=headers, content=content)
        return super().handle_request(request)


@pytest.fixture(scope="module", params=[400, 500], ids=["key_exists_400", "key_exists_500"])
def cap(tmp_path_factory, request):
    with running_cap(tmp_path_factory.mktemp("cap"), key_exists=request.param) as running:
        yield running


class Session:
    """One session on a queue row of its own, through a proxy that breaks things on demand."""

    def __init__(self, cap, proxy):
        self.cap, self.proxy, self.store = cap, proxy, MemoryStore()
        self.id, self.row = f"s-{uuid.uuid4().hex}", str(uuid.uuid4())
        row = {"wa_callqueueid": self.row, "wa_name": "Ada", "wa_attempts": 1}
        cap.send("POST", "wa_callqueues", row)
        self.adapter = DataverseAdapter(
            proxy.url, lambda: "planted-token", timeout=10, transport=RelativePaths(), readiness="off"
        )
        update = {"row_id": self.row, "status": "callback_requested", "attempts": 2}
        self.operations = [
            Operation(kind="task", payload={"subject": "one"}),
            Operation(kind="queue_status_update", payload=update),
            Operation(kind="task", payload={"subject": "two"}),
            Operation(kind="queue_status_update", payload={**update, "status": "completed"}),
        ]

    def write(self):
        means = {"store": self.store, "adapter": self.adapter, "policy": POLICY}
        return write_back(self.operations, session_id=self.id, atomic=True, **means)

    def resume(self):
        return resume_session(self.id, store=self.store, adapter=self.adapter, policy=POLICY)

    def tasks(self):
        """Their subjects, from the database itself."""
        sql = "SELECT subject FROM Dataverse_tasks WHERE wa_sessionid = ? ORDER BY subject"
        return [subject for (subject,) in self._select(sql, self.id)]

    def queue_row(self):
        columns = "wa_attempts, wa_name, wa_lastoperation"
        [found] = self._select(
            f"SELECT {columns} FROM Dataverse_wa_callqueues WHERE wa_callqueueid = ?", self.row
        )
        return found

    def edit(self, **columns):
        self.cap.send("PATCH", f"wa_callqueues({self.row})", columns)

    def _select(self, sql, *parameters):
        with closing(sqlite3.connect(self.cap.file, timeout=30)) as connection:
            return connection.execute(sql, parameters).fetchall()


@pytest.fixture
def session(cap):
    with HttpProxy(cap.url) as proxy:
        made = Session(cap, proxy)
        yield made
        made.adapter.close()


def test_a_session_in_one_request(session):
    report = session.write()
    assert report.status is RunStatus.COMPLETED, report.error
    assert session.tasks() == ["one", "two"]
    assert session.queue_row() == (2, "Ada", "4-queue_status_update")


def test_a_reply_that_is_lost(session):
    session.proxy.fault(lambda request: request.path.endswith("$batch"), lost_reply())
    assert session.write().status is RunStatus.RESUME_NEEDED
    assert session.tasks() == ["one", "two"]
    report = session.resume()
    assert report.status in DONE, report.error
    assert session.tasks() == ["one", "two"]
    assert session.queue_row() == (2, "Ada", "4-queue_status_update")


def test_a_person_who_comes_between(session):
    session.proxy.fault(lambda request: request.path.endswith("$batch"), lost_reply())
    session.write()
    session.edit(wa_attempts=9)
    report = session.resume()
    assert report.status in DONE, report.error
    assert session.tasks() == ["one", "two"]
    assert session.queue_row()[0] == 9


@pytest.mark.parametrize(("columns", "conflict"), [({"wa_attempts": 9}, True), ({"wa_name": "Bob"}, False)])
def test_a_person_who_is_faster(session, columns, conflict):
    """After the baseline was read, and before anything is sent."""

    class Faster(RelativePaths):
        def handle_request(self, request):
            if request.url.path.endswith("/$batch") and columns:
                session.edit(**columns)
                columns.clear()
            return super().handle_request(request)

    columns = {**columns}
    with DataverseAdapter(
        session.proxy.url, lambda: "planted-token", timeout=10, transport=Faster(), readiness="off"
    ) as session.adapter:
        report = session.write()
    if conflict:
        assert (report.status, report.block_reason) == (RunStatus.BLOCKED, BlockReason.CONFLICT_DETECTED)
        assert session.tasks() == []  # rolled back with the rest
        assert session.queue_row() == (9, "Ada", None)
    else:
        assert report.status is RunStatus.COMPLETED, report.error
        assert session.tasks() == ["one", "two"]
        assert session.queue_row() == (2, "Bob", "4-queue_status_update")


@pytest.mark.parametrize("marker", [None, "another"], ids=["taken", "another session's by now"])
def test_a_key_that_is_taken_rolls_everything_back(session, marker):
    """A row without a marker is another user's; with any, it is the one that was made here."""
    session.proxy.fault(lambda request: request.path.endswith("$batch"), lost_reply())
    session.write()
    first = session._select("SELECT activityid FROM Dataverse_tasks WHERE wa_sessionid = ?", session.id)
    for (task,) in first:
        session.cap.send("PATCH", f"tasks({task})", {"wa_sessionid": marker, "subject": "theirs"})
    session.edit(wa_lastsession="another", wa_lastoperation="1-x")
    report = session.resume()
    if marker is None:
        assert (report.status, report.block_reason) == (RunStatus.BLOCKED, BlockReason.CONFLICT_DETECTED)
    else:
        assert report.status is RunStatus.COMPLETED
        assert {receipt.outcome for receipt in report.receipts.values()} == {"already_applied"}
    assert session.tasks() == []
    assert session.queue_row() == (2, "Ada", "1-x")
