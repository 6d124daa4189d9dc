"""A store in a process of its own, driven over its standard input.

`StoreContract` races such processes, and kills them.

Such a process reads one JSON object a line, ``{"verb": ..., "key": ..., "data": ..., "if_absent":
...}``, and answers each with one line, ``{"value": ...}`` or ``{"error": NAME}``.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from writeahead.errors import StoreError
from writeahead.stores.base import ArtifactStore
from writeahead.stores.registry import open_store

__all__ = ["StoreProcess"]


class StoreProcess:
    """One such process, from the outside. Use it with ``with``; the process ends with the block.

    Args:
        url: What the process gives to `open_store`.
        tracer: A command that runs it, with the command that is to be run behind it; by default
            none.
    """

    def __init__(self, url: str, tracer: Sequence[str | Path] = ()) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [*tracer, sys.executable, "-c", f"from {__name__} import main; main()", url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def send(self, verb: str, key: str, data: str = "", *, if_absent: bool = False) -> None:
        """Tell it to do something, and don't wait for the answer."""
        line = json.dumps({"verb": verb, "key": key, "data": data, "if_absent": if_absent})
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def receive(self) -> dict[str, Any]:
        """Its next answer; empty if it has ended."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        return json.loads(line) if line.endswith("\n") else {}

    def call(self, verb: str, key: str, data: str = "", *, if_absent: bool = False) -> dict[str, Any]:
        """Tell it to do something, and give its answer."""
        self.send(verb, key, data, if_absent=if_absent)
        return self.receive()

    def kill(self) -> None:
        """End it with SIGKILL, wherever it is, and wait until it is gone."""
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()


def _carry_out(store: ArtifactStore, verb: str, key: str, data: str, *, if_absent: bool) -> object:
    if verb == "put":
        store.put(key, data.encode(), if_absent=if_absent)
        return None
    if verb == "get":
        return store.get(key).data.decode()
    if verb == "list":
        return [info.key for info in store.list(key)]
    if verb == "delete":
        store.delete(key)
        return None
    if verb == "put for ever":
        number = 0
        while True:
            number += 1
            store.put(key, _repeated(number, data))
            _say({"value": number})
    raise AssertionError(verb)


def _repeated(number: int, data: str) -> bytes:
    """Bytes that show whether they are whole: as many lines as ``data`` has bytes, all alike."""
    return b"%08d\n" % number * len(data)


def main() -> None:
    """Serve until the input ends."""
    store = open_store(sys.argv[1])
    for line in sys.stdin:
        try:
            answer: dict[str, object] = {"value": _carry_out(store, **json.loads(line))}
        except StoreError as error:
            answer = {"error": type(error).__name__}
        _say(answer)


def _say(answer: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
