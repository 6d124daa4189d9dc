"""Prefect: a flow in which each write is a task in a transaction with a key of its own.

- A transaction whose key has a record is not run again; its record is written when it commits,
  which here is after each write (https://docs.prefect.io/v3/advanced/transactions). One
  transaction around all writes would commit their records at its end only. Rollback hooks can't
  take back an update that others have built on, nor an e-mail, so that none is set.
- Recovery: the flow is run again with the same keys. The records are files in the scenario's
  folder.
- Retries: ``retries`` with ``retry_condition_fn`` of a task.
- A Prefect server runs beside it, on SQLite.
"""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.lost_reply import crm as client

NAME = "Prefect transactions"
PACKAGES = ("prefect",)


@contextlib.contextmanager
def service(folder: Path) -> Iterator[None]:
    """A Prefect server of its own; its address is in the environment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ |= {
        "PREFECT_HOME": str(folder / "home"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_LEVEL": "CRITICAL",
        "PREFECT_LOGGING_TO_API_ENABLED": "false",
        "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "true",
        "DO_NOT_TRACK": "1",
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{port}/api"
        try:
            while not _listens(port):
                if server.poll() is not None:
                    raise ModuleNotFoundError(name="prefect server")
                time.sleep(0.2)
            yield
        finally:
            server.terminate()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def load(folder: str) -> None:
    import prefect.main
    import prefect.transactions  # noqa: F401


def work(job) -> None:
    from prefect import flow, task
    from prefect.filesystems import LocalFileSystem
    from prefect.results import ResultStore
    from prefect.transactions import transaction

    crm = job.crm
    store = ResultStore(result_storage=LocalFileSystem(basepath=job.folder))

    def once(step: str, call, *args):
        rule = client.may_retry(step, crm.setup)

        def worth_it(_task, _run, state) -> bool:
            return rule(state.result(raise_on_failure=False))

        retries = {"retries": client.ATTEMPTS - 1, "retry_delay_seconds": 0, "retry_condition_fn": worth_it}
        with transaction(key=f"{job.session}-{step}", store=store) as done:
            if done.is_committed():
                return done.read().result
            value = task(name=step, persist_result=False, **retries)(call)(*args)
            done.stage(value)
            return value

    @flow(name="three writes", persist_result=False)
    def three_writes() -> None:
        baseline = once("baseline", lambda: crm.baseline())
        once("create", lambda: crm.create(f"{job.session}-create"))
        once("update", lambda: crm.update(baseline))
        once("email", lambda: crm.email())

    three_writes()
