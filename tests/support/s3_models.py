"""botocore's descriptions of services, parsed once in a process.

Each new client of S3 reads them again, which takes longer than what most tests do with it.
"""

import functools
from typing import Any

from botocore.loaders import JSONFileLoader

_plain = JSONFileLoader.load_file


@functools.cache
def _parsed(path: str) -> Any:
    return _plain(JSONFileLoader(), path)


def parse_once() -> None:
    """Keep what botocore's loader reads, by path, for all clients of this process."""
    JSONFileLoader.load_file = lambda _self, path: _parsed(path)
