"""Runs jobs in forked children, so that a kill does not cost a start of the interpreter.

Reads a job as JSON from a line of its input, forks, and answers with a line: the child's wait
status as a negative signal or an exit code. The child is a real process and dies of a real SIGKILL.
This process has no threads and never opens a store, so that a fork copies nothing but loaded
modules.

A job: verb (run, resume), operations (of a run; by default one of each kind), store and remote
(URLs), deadly (the number of the step to die at; 0 for never), hours (how far the clock is ahead),
interval (of the journal, in seconds), log (a file that gets each step, one a line), inject (a
system call for strace, as NAME:when=N; or "trace", to log all of them to ``strace_log``).
"""

import json
import os
import signal
import subprocess
import sys

import httpx

from tests.support.invariants import hours_later
from tests.support.reference_remote import OPERATIONS, ReferenceAdapter, Remote, transport_to
from tests.support.wrappers import WholeListStore
from writeahead import ArtifactStore, RunPolicy, open_store, resume_session, write_back
from writeahead.stores.memory import MemoryStore

# What a run does to the disk and to the network. Reads of the clock, of memory etc. change nothing.
SYSCALLS = "openat,write,fsync,linkat,unlinkat,renameat,mkdirat,connect,sendto,recvfrom,close"


class Steps:
    """Counts the points at which this process could die, and dies at the chosen one."""

    def __init__(self, deadly: int, log: int) -> None:
        self.deadly, self.log, self.count = deadly, log, 0

    def __call__(self, point: str) -> bool:
        self.count += 1
        os.write(self.log, f"{point}\n".encode())
        if self.count != self.deadly:
            return False
        if point.startswith("after apply"):
            return True  # the server does it
        os.kill(os.getpid(), signal.SIGKILL)
        return False


class SteppingStore(WholeListStore):
    """A step before and after each call of another store."""

    def __init__(self, inner: ArtifactStore, step: Steps) -> None:
        super().__init__(inner)
        self._step = step

    def _around(self, verb: str, key: str, call):
        self._step(f"before {verb} {key}")
        result = call()
        self._step(f"after {verb} {key}")
        return result


def step_s3_exchanges(step: Steps) -> None:
    """A step right before each request to S3 leaves, and one when its reply is there and unread."""
    from writeahead.stores import s3_client

    class Stepping(s3_client.PlainSession):
        async def send(self, request):
            step(f"before send {request.method}")
            reply = await super().send(request)
            step(f"after reply {request.method}")
            return reply

    s3_client.PlainSession = Stepping


def work(job: dict) -> None:
    log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    step = Steps(job["deadly"], log)
    if job["store"].startswith("s3:"):
        step_s3_exchanges(step)
    store = open_store(job["store"])
    adapter = ReferenceAdapter(job["remote"], step)
    if job.get("inject"):
        adapter = ReferenceAdapter(job["remote"])
    else:
        store = SteppingStore(store, step)
    policy = RunPolicy(clock_skew=0, journal_interval=job["interval"])
    means = {"store": store, "adapter": adapter, "policy": policy, "clock": hours_later(job["hours"])}
    if job["verb"] == "run":
        report = write_back(job.get("operations") or OPERATIONS, session_id="s1", **means)
    else:
        report = resume_session("s1", **means)
    os.write(log, f"status {report.status}\n".encode())


def child(job: dict, go: int) -> None:
    code = 1
    try:
        if job.get("inject"):
            os.read(go, 1)
        work(job)
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def attach(pid: int, job: dict) -> subprocess.Popen:
    inject = job["inject"]
    # A store on S3 has a thread of its own for the network.
    threads = ["-f"] if job["store"].startswith("s3:") else []
    what = ["-o", job["strace_log"], f"--trace={SYSCALLS}"]
    if inject != "trace":
        call, when = inject.split(":")
        what = ["-o", "/dev/null", f"--trace={call}", f"--inject={call}:signal=KILL:{when}"]
    tracer = subprocess.Popen(["strace", *threads, *what, "-p", str(pid)], stderr=subprocess.PIPE)
    assert tracer.stderr is not None
    said = b""
    while b"attached" not in said:
        more = os.read(tracer.stderr.fileno(), 4096)
        if not more:
            raise RuntimeError(f"strace did not attach: {said!r}")
        said += more
    return tracer


def warm_up_s3() -> None:
    import asyncio

    import aiobotocore.session

    import writeahead.stores.s3  # noqa: F401
    from tests.support import s3_models

    s3_models.parse_once()

    async def connect() -> None:
        async with aiobotocore.session.get_session().create_client("s3", region_name="us-east-1"):
            pass

    asyncio.run(connect())


def warm_up() -> None:
    """Load and build, once for all children, what a first run loads and builds."""
    import encodings.idna  # noqa: F401 - for the first connection

    import writeahead.stores.local  # noqa: F401

    if "s3" in sys.argv:
        warm_up_s3()
    import concurrent.futures.thread  # noqa: F401 - for independent operations

    for _ in range(2):
        adapter = ReferenceAdapter("http://remote.invalid", transport=transport_to(Remote()))
        write_back(OPERATIONS, session_id="s1", store=MemoryStore(), adapter=adapter)
        adapter.close()
    store = MemoryStore()
    adapter = ReferenceAdapter(
        "http://remote.invalid", transport=httpx.MockTransport(lambda _: httpx.Response(503))
    )
    write_back(OPERATIONS, session_id="s1", store=store, adapter=adapter, policy=RunPolicy(attempts=1))
    resume_session("s1", store=store, adapter=adapter, policy=RunPolicy(attempts=1))


def main() -> None:
    warm_up()
    for line in sys.stdin:
        job = json.loads(line)
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            child(job, reader)
        tracer = None
        if job.get("inject"):
            tracer = attach(pid, job)
            os.write(writer, b"g")
        os.close(reader)
        os.close(writer)
        _, status = os.waitpid(pid, 0)
        if tracer is not None:
            tracer.wait()
            tracer.stderr.close()
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
