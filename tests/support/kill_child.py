"""Runs a session in this process, which kills itself with SIGKILL at its n-th step.

Arguments: store URL, remote URL, n (0: never). Prints the steps it passed, one a line.
"""

import sys

from tests.support.fork_server import Steps
from tests.support.reference_remote import ReferenceAdapter
from tests.support.remotes import operations
from writeahead import ArtifactStore, open_store, write_back


class SteppingStore(ArtifactStore):
    """Calls ``step`` before and after each write."""

    def __init__(self, inner, step):
        self.inner, self.step = inner, step

    @property
    def name(self):
        return self.inner.name

    def _put(self, key, data, *, if_absent):
        self.step(f"before put {key}")
        info = self.inner.put(key, data, if_absent=if_absent)
        self.step(f"after put {key}")
        return info

    def _delete(self, key):
        self.step(f"before delete {key}")
        self.inner.delete(key)
        self.step(f"after delete {key}")

    def _get(self, key):
        return self.inner.get(key)

    def _head(self, key):
        return self.inner.head(key)

    def _list(self, prefix, start_after):
        return self.inner.list(prefix, start_after=start_after)


def main():
    store_url, remote_url, deadly = sys.argv[1:]
    step = Steps(int(deadly), sys.stdout.fileno())
    store = SteppingStore(open_store(store_url), step)
    adapter = ReferenceAdapter(remote_url, step)
    # The default lease: a short one ends the run early on a machine that is busy.
    report = write_back(operations("create", "create", "mail"), session_id="s1", store=store, adapter=adapter)
    print(f"status {report.status}")


if __name__ == "__main__":
    main()
