"""Processes that keep to limits together: started once, then forked, one process for each worker.

python limited_workers.py sessions URL FOLDER STORE     each worker carries out three sessions
python limited_workers.py rate URL FOLDER               each worker sends as much as it may

It prints the ids of its workers on one line, and their exit codes on the next.
"""

import json
import os
import sys
import threading
import traceback

import httpx
from pydantic import BaseModel

from writeahead import Adapter, RunPolicy, emits, open_store, write_back
from writeahead.adapters.base import target_of
from writeahead.adapters.dataverse import DataverseClient, TransientDataverseError
from writeahead.adapters.dataverse.webapi.protection import ServiceLimits, protection_of
from writeahead.adapters.http import Connections, remote_errors, require_status
from writeahead.adapters.shared_slots import SharedSlots

WORKERS, SLOTS, SESSIONS = 4, 2, 3
BURST, REQUESTS, TRIES = 20, 240, 15


class Limited(httpx.BaseTransport):
    """What an author writes."""

    def __init__(self, inner, slots):
        self.inner, self.slots = inner, slots

    def handle_request(self, request):
        with self.slots.slot(timeout=60):
            return self.inner.handle_request(request)

    def close(self):
        self.inner.close()


class Row(BaseModel):
    text: str


class LimitedCrm(Adapter):
    name = "limited"

    def __init__(self, url, folder, worker=""):
        self.root, self.worker = httpx.URL(url), worker
        slots = SharedSlots(folder, SLOTS)
        self.http = Connections(self.root, httpx.Timeout(60), wrap=lambda inner: Limited(inner, slots))

    def target(self):
        return target_of(str(self.root))

    @emits("create_with_key")
    def emit_row(self, payload: Row, operation):
        with remote_errors("PUT /rows"):
            url = self.root.copy_with(path=f"/rows/{operation.key}")
            reply = self.http.exchange("PUT", url, headers={"X-Worker": self.worker}, content=b"x")
            require_status(reply, 200, 201)


def carry_out(worker, url, folder, store):
    """Three sessions in three threads, of two operations each."""
    adapter = LimitedCrm(url, folder, worker)
    statuses = []

    def run(number):
        row = {"kind": "row", "payload": {"text": "x"}}
        report = write_back(
            [row, row],
            session_id=f"w{worker}-{number}",
            store=open_store(store),
            adapter=adapter,
            policy=RunPolicy(attempts=1),
        )
        statuses.append(str(report.status))

    threads = [threading.Thread(target=run, args=[number]) for number in range(SESSIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == ["completed"] * SESSIONS, statuses


def send_all(url, folder):
    from pathlib import Path

    protection = protection_of(url, ServiceLimits(requests=REQUESTS), Path(folder))
    timeout = httpx.Timeout(30, pool=0.001)
    client = DataverseClient(url, lambda: "token", protection=protection, timeout=timeout)
    for _ in range(TRIES):
        try:
            client.patch("tasks", "0f8b3f0e-52c5-5d0c-9a53-5b0b3a1c7d11", {"subject": "x"}, create_only=True)
        except TransientDataverseError as error:
            if "not sent" not in str(error):
                raise


def main(what, url, folder, *store):
    workers = []
    for number in range(WORKERS):
        worker = os.fork()
        if not worker:
            code = 1
            try:
                carry_out(str(number), url, folder, *store) if what == "sessions" else send_all(url, folder)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        workers.append(worker)
    print(json.dumps(workers), flush=True)
    print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) for worker in workers]))


if __name__ == "__main__":
    main(*sys.argv[1:])
