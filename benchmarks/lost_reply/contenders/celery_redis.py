"""Celery with acks_late and a Redis broker: the three writes are one task.

- ``acks_late``: a message is acknowledged once its task has ended, so that a task whose worker is
  killed comes again, and so should be idempotent
  (https://docs.celeryq.dev/en/stable/userguide/tasks.html). Redis gives it to another worker once
  the visibility timeout is over
  (https://docs.celeryq.dev/en/stable/getting-started/backends-and-brokers/redis.html); here it is
  over when the next worker starts. ``task_reject_on_worker_lost`` is set: it does the same sooner
  where the parent of the killed process lives on, which it does not here (pool "solo").
- The deal's baseline is an argument of the task, so that it is in the message and survives with
  it. The remote's key is the task's id.
- Retries: by tenacity within the task, since ``autoretry_for`` would begin with its first write
  again.

A caller that was killed before its message was in the queue sends it again, with the same task
id.
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
    app, task, ended = _app(f"redis+socket://{socket_path}", job)
    _count(job.steps)
    if not broker.exists(f"celery-task-meta-{job.session}") and not _is_queued(broker):
        baseline = retried("baseline", job.crm.setup, job.crm.baseline)
        task.apply_async((job.session, baseline), task_id=job.session)
    _worked(app, broker)
    result = app.AsyncResult(job.session)
    if result.failed():
        raise ended.get("error") or getattr(client, type(result.result).__name__)(str(result.result))
    if not result.successful():
        raise RuntimeError(f"the task is {result.state}")


def _is_queued(broker) -> bool:
    return bool(broker.llen("celery") or broker.hlen("unacked"))


def _app(url: str, job):
    from celery import Celery

    app = Celery("session", broker=url, backend=url)
    app.conf.update(
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
    )
    crm, ended = job.crm, {}

    @app.task(name="three_writes")
    def three_writes(session: str, baseline: dict) -> None:
        try:
            retried("create", crm.setup, crm.create, f"{session}-create")
            retried("update", crm.setup, crm.update, baseline)
            retried("email", crm.setup, crm.email)
        except Exception as error:
            ended["error"] = error
            raise

    return app, three_writes, ended


def _worked(app, broker) -> None:
    """Run a worker until nothing is queued and nothing is unacknowledged."""
    from celery.worker import state

    def watch() -> None:
        while _is_queued(broker):
            time.sleep(0.01)
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
