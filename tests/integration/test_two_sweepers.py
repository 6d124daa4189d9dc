"""Two sweepers in two processes on one folder, one killed: nothing is lost, nothing doubled."""

import json
import subprocess
import sys
import threading

import pytest

from tests.support.processes import child_environment
from tests.support.reference_remote import ReferenceAdapter, serve
from tests.support.remotes import operations
from writeahead import RunPolicy, open_store, sweep, write_back
from writeahead.errors import Applied, TransientError
from writeahead.model import RunStatus, idempotency_key
from writeahead.protocol.finding import unfinished_sessions

ADAPTER = "tests.support.reference_remote:ReferenceAdapter"
SESSIONS = [f"s{number:02}" for number in range(24)]


class DownAdapter(ReferenceAdapter):
    """Reaches nothing, so that its session is parked."""

    def _exchange(self, method, operation, headers, body):
        raise TransientError("PUT /create: 503", applied=Applied.NO)


@pytest.fixture
def start(tmp_path):
    started = []

    def sweeper(remote):
        settings = f'store = "./store"\nadapter = "{ADAPTER}"\n[adapters."{ADAPTER}"]\nurl = "{remote.url}"\n'
        (tmp_path / "writeahead.toml").write_text(settings)
        command = [sys.executable, "-m", "writeahead", "sweep", "--write", "--quiet", "--json"]
        process = subprocess.Popen(
            [*command, "--concurrency", "4"],
            cwd=tmp_path,
            env=child_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield sweeper
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.mark.parametrize("deadly", [7, 30])
def test_one_of_two_sweepers_is_killed(tmp_path, start, deadly):
    store = open_store(tmp_path / "store")
    with serve() as remote:
        down = DownAdapter(remote.url)
        for name in SESSIONS:
            parked = write_back(
                operations("create", "create", "mail"),
                session_id=name,
                store=store,
                adapter=down,
                policy=RunPolicy(attempts=1),
            )
            assert parked.status is RunStatus.RESUME_NEEDED
        down.close()

        victim_dies, both, arrived = threading.Event(), threading.Event(), threading.Semaphore(0)
        honest, processes = remote.answer, []

        def answer(*request):
            arrived.release()
            both.wait(60)
            reply = honest(*request)  # it took effect; its sender may be dead before it knows
            if len(remote.requests) == deadly:
                processes[0].kill()
                victim_dies.set()
            return reply

        remote.answer = answer
        for _ in range(2):
            # Each has three sessions at once until the remote has answered: both are at work.
            processes.append(start(remote))
            for _ in range(3):
                assert arrived.acquire(timeout=60)
        both.set()
        assert victim_dies.wait(60)
        out, _ = processes[1].communicate(timeout=60)
        survivors = json.loads(out)["totals"]
        assert processes[0].wait(60) == -9

        adapter = ReferenceAdapter(remote.url)
        list(sweep(store, adapter, concurrency=4))
        adapter.close()
        _judge(store, remote)
        print(f"killed at request {deadly}: the other one had {survivors}")


def _judge(store, remote):
    blocked = set(unfinished_sessions(store))
    # Its e-mail was under way when the process was killed: at most one for each of its threads.
    assert len(blocked) <= 4
    for name in SESSIONS:
        counts = [remote.effects[idempotency_key(name, n)] for n in ("1-create", "2-create", "3-mail")]
        assert counts[:2] == [1, 1]
        assert counts[2] <= 1 if name in blocked else counts[2] == 1
        assert (store.head(f"{name}/writeback.json") is None) == (name in blocked)
    assert max(remote.effects.values()) == 1
