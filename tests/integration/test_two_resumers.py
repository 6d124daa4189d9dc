"""Two processes resume one session at once: exactly one proceeds."""

import subprocess
import sys

import pytest

from tests.support.processes import child_environment
from tests.support.reference_remote import ReferenceAdapter, serve
from tests.support.remotes import operations
from writeahead import RunPolicy, open_store, write_back
from writeahead.errors import Applied, TransientError
from writeahead.model import RunStatus, idempotency_key

ROUNDS = 50


class DownAdapter(ReferenceAdapter):
    """Reaches nothing, so that its session is parked."""

    def _exchange(self, method, operation, headers, body):
        raise TransientError("PUT /create: 503", applied=Applied.NO)


@pytest.fixture
def resumers():
    """Start two processes; end whatever is left of them."""
    running = []

    def start(store_url, remote_url):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.resume_child", store_url, remote_url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            env=child_environment(),
        )
        running.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in running:
        process.stdin.close()
        process.stdout.close()
        process.wait()


@pytest.mark.timeout(3000)
def test_exactly_one_of_two_resumers_proceeds_each_time(tmp_path, resumers):
    url = f"file://{tmp_path}/store"
    store = open_store(url)
    with serve() as remote:
        first, second = resumers(url, remote.url), resumers(url, remote.url)
        raced = 0
        for number in range(ROUNDS):
            session_id = f"s{number}"
            parked = write_back(
                operations("create", "mail"),
                session_id=session_id,
                store=store,
                adapter=DownAdapter(remote.url),
                policy=RunPolicy(attempts=1),
            )
            assert parked.status is RunStatus.RESUME_NEEDED
            for process in (first, second):
                process.stdin.write(f"{session_id}\n")
                process.stdin.flush()
            answers = sorted(process.stdout.readline().split()[0] for process in (first, second))
            # Who comes too late finds the other at work, or everything done.
            assert answers[0] == "completed"
            assert answers[1] in ("in_progress", "no_resume_needed")
            raced += answers[1] == "in_progress"
            for name in ("1-create", "2-mail"):
                assert remote.effects[idempotency_key(session_id, name)] == 1
        assert len(remote.requests) == 2 * ROUNDS
        print(f"{raced} of {ROUNDS} rounds had both at it at once")
