"""Runs or resumes a session in this process, which kills itself with SIGKILL at its n-th step.

Arguments: run|resume, store URL, remote URL, n (0: never). Prints the steps it passed, one a line.
"""

import os
import signal
import sys

from tests.support.loopback import LoopbackAdapter
from tests.support.remotes import operations
from writeahead import RunPolicy, open_store, resume_session, write_back
from writeahead.testing import WrapperStore


class Steps:
    """Counts the points between two steps, and dies at the chosen one."""

    def __init__(self, deadly):
        self.deadly = deadly
        self.count = 0

    def __call__(self, point):
        self.count += 1
        print(point, flush=True)
        if self.count == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)


class SteppingStore(WrapperStore):
    """Calls ``step`` before and after each write."""

    def __init__(self, inner, step):
        super().__init__(inner)
        self.step = step

    def _around(self, verb, key, call):
        if verb not in ("put", "create", "delete"):
            return call()
        self.step(f"before {verb} {key}")
        result = call()
        self.step(f"after {verb} {key}")
        return result


def main():
    verb, store_url, remote_url, deadly = sys.argv[1:]
    step = Steps(int(deadly))
    store = SteppingStore(open_store(store_url), step)
    adapter = LoopbackAdapter(remote_url, step)
    # Nothing waits for a killed owner here: its lease is over as soon as somebody looks.
    policy = RunPolicy(lease=0.5, clock_skew=0, run_limit=5)
    if verb == "run":
        report = write_back(
            operations("create", "create", "mail"),
            session_id="s1",
            store=store,
            adapter=adapter,
            policy=policy,
        )
    else:
        report = resume_session("s1", store=store, adapter=adapter, policy=policy)
    print(f"status {report.status}")


if __name__ == "__main__":
    main()
