"""Celery with acks_late and a Redis broker: a chain of three tasks.

- ``acks_late``: a message is acknowledged once its task has ended, so that a task whose worker is
  killed comes again, and so should be idempotent
  (https://docs.celeryq.dev/en/stable/userguide/tasks.html). Redis gives it to another worker once
  the visibility timeout is over
  (https://docs.celeryq.dev/en/stable/getting-started/backends-and-brokers/redis.html); here it is
  over when the next worker starts. ``task_reject_on_worker_lost`` is set: it does the same sooner
  where the parent of the killed process lives on, which it does not here (pool "solo").
- A chain (https://docs.celeryq.dev/en/stable/userguide/canvas.html), so that a write whose task has
  ended is not made again. The deal's baseline is an argument of the first task, and so survives in
  the messages. The remote's key is made from the id that the caller gives.
- Retries: ``autoretry_for`` names what each task may try again.

A caller that was killed before its message was in the queue sends it again, with the same ids.
"""

import contextlib
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.lost_reply import crm as client
from benchmarks.lost_reply.contenders.tenacity_alone import retried

NAME = "Celery, acks_late"
PACKAGES = ("celery", "redis")
# Looks after which a worker without work is stopped: a message that was lost does not come.
IDLE = 500
STEPS = ("create", "update", "email")
_WRITES = (b"LPUSH", b"BRPOP", b"ZADD", b"ZREM", b"HSET", b"HDEL", b"SET", b"SETEX", b"EXEC", b"MULTI")


@contextlib.contextmanager
def service(folder: Path) -> Iterator[None]:
    """A Redis server of its own."""
    program = shutil.which("redis-server")
    if program is None:
        raise ModuleNotFoundError(name="redis-server")
    path = folder / "redis.sock"
    command = [program, "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        while not _listens(path):
            time.sleep(0.05)
        try:
            yield
        finally:
            server.terminate()


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def load(folder: str) -> None:
    import redis  # noqa: F401


def work(job) -> None:
    import redis

    socket_path = str(Path(job.folder).parent / "redis.sock")
    broker = redis.Redis(unix_socket_path=socket_path)
    if job.verb == "run":
        broker.flushall()
    else:
        for tag in broker.zrange("unacked_index", 0, -1):
            broker.zadd("unacked_index", {tag: 0})  # so long ago that the visibility timeout is over
    app, chain = _app(f"redis+socket://{socket_path}", job)
    _count(job.steps)
    tasks = [f"{job.session}-{step}" for step in STEPS]
    if not broker.exists(f"celery-task-meta-{tasks[0]}") and not _is_queued(broker):
        chain(job.session, retried("baseline", job.crm.setup, job.crm.baseline)).apply_async()
    results = [app.AsyncResult(task) for task in tasks]
    _worked(app, broker, results)
    for result in results:
        if result.failed():
            raise getattr(client, type(result.result).__name__)(str(result.result))
    if not results[-1].successful():
        raise RuntimeError(f"the tasks are {[result.state for result in results]}")


def _has_ended(broker, results) -> bool:
    has_result = results[-1].successful() or any(result.failed() for result in results)
    return has_result and not _is_queued(broker)


def _is_queued(broker) -> bool:
    return bool(broker.llen("celery") or broker.hlen("unacked"))


def _app(url: str, job):
    from celery import Celery, chain

    app = Celery("session", broker=url, backend=url)
    app.conf.update(
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
    )
    crm = job.crm

    def task(step: str):
        again = (
            (client.NotApplied, client.Unknown)
            if client.is_provable(step, crm.setup)
            else (client.NotApplied,)
        )
        retries = {"autoretry_for": again, "max_retries": client.ATTEMPTS - 1, "default_retry_delay": 0}
        return app.task(name=step, retry_backoff=False, **retries)

    @task("create")
    def create(session: str, baseline: dict) -> dict:
        crm.create(f"{session}-create")
        return baseline

    @task("update")
    def update(baseline: dict) -> None:
        crm.update(baseline)

    @task("email")
    def email() -> None:
        crm.email()

    def three_writes(session: str, baseline: dict):
        calls = (create.s(session, baseline), update.s(), email.si())
        named = [call.set(task_id=f"{session}-{step}") for call, step in zip(calls, STEPS, strict=True)]
        return chain(*named)

    return app, three_writes


def _worked(app, broker, results) -> None:
    """Run a worker until the tasks have ended and are acknowledged, or nothing happens any more."""
    from celery.worker import state

    def watch() -> None:
        idle = 0
        # A message that is being taken is for a moment neither in the queue nor unacknowledged.
        while idle < IDLE and not _has_ended(broker, results):
            time.sleep(0.02)
            idle = 0 if _is_queued(broker) else idle + 1
        state.should_stop = 0

    threading.Thread(target=watch, daemon=True).start()
    options = {"pool": "solo", "concurrency": 1, "loglevel": "CRITICAL", "quiet": True}
    worker = app.Worker(without_gossip=True, without_mingle=True, without_heartbeat=True, **options)
    with contextlib.suppress(SystemExit):
        worker.start()


def _count(steps) -> None:
    """Count what is written to the broker as local steps."""
    from redis.connection import AbstractConnection

    send = AbstractConnection.send_packed_command

    def counted(self, command, *args, **kwargs):
        packed = command if isinstance(command, bytes) else b"".join(command)
        if any(b"\r\n" + verb + b"\r\n" in packed.upper() for verb in _WRITES):
            steps.passed()
        return send(self, command, *args, **kwargs)

    AbstractConnection.send_packed_command = counted
