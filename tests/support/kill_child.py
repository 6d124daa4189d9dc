"""Runs a session in this process, which kills itself with SIGKILL at its n-th step.

Arguments: store URL, remote URL, n (0: never). Prints the steps it passed, one a line.
"""

import sys

from tests.support.fork_server import Steps
from tests.support.reference_remote import ReferenceAdapter
from tests.support.remotes import operations
from writeahead import RunPolicy, open_store, write_back
from writeahead.testing import WrapperStore


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
    step = Steps(int(deadly), sys.stdout.fileno())
    store = SteppingStore(open_store(store_url), step)
    adapter = ReferenceAdapter(remote_url, step)
    # The default lease: a short one ends the run early on a machine that is busy.
    report = write_back(
        operations("create", "create", "mail"),
        session_id="s1",
        store=store,
        adapter=adapter,
        policy=RunPolicy(journal_interval=0),
    )
    print(f"status {report.status}")


if __name__ == "__main__":
    main()
