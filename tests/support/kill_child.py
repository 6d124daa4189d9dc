"""Runs a session in this process, which kills itself with SIGKILL at its n-th step.

Arguments: store URL, remote URL, n (0: never). Prints the steps it passed, one a line.
"""

import os
import signal
import sys

from tests.support.loopback import LoopbackAdapter
from tests.support.remotes import operations
from writeahead import open_store, write_back
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
    store_url, remote_url, deadly = sys.argv[1:]
    step = Steps(int(deadly))
    store = SteppingStore(open_store(store_url), step)
    adapter = LoopbackAdapter(remote_url, step)
    # The default lease: a short one ends the run early on a machine that is busy.
    report = write_back(operations("create", "create", "mail"), session_id="s1", store=store, adapter=adapter)
    print(f"status {report.status}")


if __name__ == "__main__":
    main()
