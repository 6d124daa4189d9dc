"""A prune, a hundred days from now, which kills itself with SIGKILL at its n-th step.

Arguments: store URL, n (0: never), and the URL of an archive. Prints the steps, one a line.
"""

import sys

from tests.support.fork_server import Steps
from tests.support.kill_child import SteppingStore
from tests.support.pruned import pruned
from writeahead import open_store


def main():
    store_url, deadly, archive_url = sys.argv[1:]
    step = Steps(int(deadly), sys.stdout.fileno())
    archive = SteppingStore(open_store(archive_url), step)
    assert all(
        result.error is None for result in pruned(SteppingStore(open_store(store_url), step), archive=archive)
    )


if __name__ == "__main__":
    main()
