"""An orchestrator of its own, which kills itself with SIGKILL at its n-th step.

Arguments: store URL, remote URL, n (0: never). Prints the steps it passed, one a line.
"""

import sys
import uuid

import httpx
from pydantic import BaseModel

from tests.support.fork_server import Steps
from tests.support.kill_child import SteppingStore
from writeahead import (
    load_replay_artifact,
    open_store,
    write_planned_writeback_artifact,
    write_writeback_artifact,
)


class Outcome(BaseModel):
    rows: dict[str, str]
    run: str


def new_outcome():
    # The keys are of the work, and the rest differs from run to run, as a timestamp does.
    rows = {str(uuid.uuid5(uuid.NAMESPACE_URL, text)): text for text in ("call", "queue", "task")}
    return Outcome(rows=rows, run=str(uuid.uuid4()))


def carry_out(store, session_id, outcome, url, step):
    for key, text in outcome.rows.items():
        step(f"before PUT {text}")
        httpx.put(f"{url}/rows/{key}", content=text).raise_for_status()
        step(f"after PUT {text}")
    return write_writeback_artifact(store, session_id, outcome)


def resume(store, session_id, url):
    """What a sweep calls; also what the program does itself when it starts again."""
    found = load_replay_artifact(store, session_id, Outcome)
    if not found.finished:
        carry_out(store, session_id, found.model, url, lambda _: None)


def main():
    store_url, remote_url, deadly = sys.argv[1:]
    step = Steps(int(deadly), sys.stdout.fileno())
    store = SteppingStore(open_store(store_url), step)
    outcome = new_outcome()
    write_planned_writeback_artifact(store, "s1", outcome)
    carry_out(store, "s1", outcome, remote_url, step)


if __name__ == "__main__":
    main()
