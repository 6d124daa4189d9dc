"""Sessions for workers of engines, the remote that they write to, and what must be true of both."""

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections import Counter

from tests.support.processes import child_environment
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


def make_adapter():
    """A factory for examples: it reads the environment, as one with secrets would."""
    return WorkerAdapter(os.environ["CRM_URL"])


class DownAdapter(ReferenceAdapter):
    """Reaches nothing, so that its session is parked."""

    asks = None

    def _exchange(self, method, operation, headers, body):
        raise TransientError("PUT /create: 503", applied=Applied.NO, retry_after=self.asks)


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


class Killer:
    """Has a worker killed once the remote has applied a request of it; keeps who sent what.

    Args:
        remote: The remote; it answers through this object from now on.
        kill: Called with the headers of that request.
        at: Says from method, path and number whether it is that request.
    """

    def __init__(self, remote, kill, at):
        self.remote, self._honest = remote, remote.answer
        self._kill, self._at = kill, at
        self.killed = threading.Event()
        self.killed_at = 0.0
        self.pids = set()
        self.lock = threading.Lock()
        remote.answer = self.answer

    def answer(self, method, path, headers, body):
        reply = self._honest(method, path, headers, body)
        with self.lock:
            self.pids.add(headers["X-Pid"])
            if self.killed.is_set() or not self._at(method, path, len(self.remote.requests)):
                return reply
            self._kill(headers)
            self.killed_at = time.monotonic()
            self.killed.set()
        # A signal takes its time, and no answer must be faster: so there is none.
        threading.Event().wait(30)
        raise ConnectionResetError


def kill_pid(headers):
    os.kill(int(headers["X-Pid"]), signal.SIGKILL)


def at_request(number):
    return lambda method, path, count: count >= number


def at_mail(method, path, count):
    return path.startswith("/mail/") and count > 20


def can_unshare():
    """Whether processes can be given process ids of their own, as on a machine of their own."""
    tried = ["unshare", "--fork", "--pid", "--mount-proc", "true"]
    return bool(shutil.which("unshare")) and subprocess.run(tried, check=False).returncode == 0


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Processes:
    """Starts processes, each in a process group of its own; kills in the end what still runs."""

    def __init__(self, folder):
        self.folder = folder
        self._started = []

    def __call__(self, *command, **environ):
        log = self.folder / f"log-{len(self._started)}"
        with log.open("w") as errors:
            process = subprocess.Popen(
                list(map(str, command)),
                cwd=self.folder,
                env=child_environment(DASK_TEMPORARY_DIRECTORY=str(self.folder), **environ),
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )
        process.log = log
        self._started.append(process)
        return process

    def close(self):
        for process in self._started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


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
