"""The time of 20 posts of 100 ms that need no order: at once, one after another, and bare.

    python benchmarks/independent.py [--rounds N] [--json FILE] [--folder FOLDER]

All contenders post the same payloads to the same loopback server, which answers after 100 ms, with
the same client, in turn. "at once" is 10 at a time, the default of `RunPolicy.max_in_flight`.

- bare: the posts alone, by a thread pool or a loop.
- creates: `write_back` of operations of class `create_with_key` on a folder.
- unprovable: the same of class `unprovable`, each of which is announced in the journal before it is
  sent, and recorded after it.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
from session import filesystem, loopback_server, spread

from writeahead import Adapter, Operation, PlannedOperation, RunPolicy, emits, open_store, write_back

POSTS, WAIT, AT_ONCE = 20, 0.1, RunPolicy().max_in_flight
AIM = 0.4
PAYLOADS = [{"number": number, "text": "call back"} for number in range(POSTS)]


class Poster(Adapter):
    name = "poster"
    thread_safe = True

    def __init__(self, client: httpx.Client) -> None:
        self.client = client

    @emits("create_with_key")
    def emit_create(self, payload: dict[str, Any], _operation: PlannedOperation) -> None:
        post(self.client, payload)

    @emits("unprovable")
    def emit_mail(self, payload: dict[str, Any], _operation: PlannedOperation) -> None:
        post(self.client, payload)


def post(client: httpx.Client, payload: dict[str, Any]) -> None:
    client.post("/", json=payload).raise_for_status()


def contenders(client: httpx.Client, folder: Path) -> dict[str, Callable[[str], None]]:
    store, adapter = open_store(folder), Poster(client)

    def bare_at_once(_: str) -> None:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda payload: post(client, payload), PAYLOADS))

    def bare_in_order(_: str) -> None:
        for payload in PAYLOADS:
            post(client, payload)

    def session(kind: str, *, independent: bool) -> Callable[[str], None]:
        asked = [Operation(kind=kind, payload=payload, independent=independent) for payload in PAYLOADS]
        return lambda name: (
            write_back(asked, session_id=name, store=store, adapter=adapter).raise_for_status() and None
        )

    return {
        "bare, at once": bare_at_once,
        "creates, at once": session("create", independent=True),
        "unprovable, at once": session("mail", independent=True),
        "bare, in order": bare_in_order,
        "creates, in order": session("create", independent=False),
        "unprovable, in order": session("mail", independent=False),
    }


def measure(url: str, folder: Path, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each round, by contender."""
    limits = httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE)
    with httpx.Client(base_url=url, timeout=60, limits=limits) as client:
        found = contenders(client, folder)
        times: dict[str, list[float]] = {name: [] for name in found}
        # The first round warms up, and does not count.
        for number in range(rounds + 1):
            for place, (name, run) in enumerate(found.items()):
                began = time.perf_counter()
                run(f"session-{number}-{place}")
                times[name].append(time.perf_counter() - began)
    return {name: values[1:] for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10, help="sessions of each contender (default: 10)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument("--folder", type=Path, default=Path(), help="on a real disk (default: .)")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix=".bench-", dir=options.folder) as name,
        loopback_server(WAIT) as url,
    ):
        times = measure(url, Path(name).resolve(), max(2, options.rounds))
    where = filesystem(options.folder)[0]
    print(f"{POSTS} posts of {WAIT * 1000:.0f} ms, {AT_ONCE} at once; {where}; in seconds")
    print(f"{'':22} {'median':>8} {'p25':>8} {'p75':>8}  over bare")
    for name, values in times.items():
        bare = statistics.median(times["bare," + name.partition(",")[2]])
        middle, low, high = spread(values)
        print(f"{name:22} {middle:8.3f} {low:8.3f} {high:8.3f}  {middle / bare:.2f}")
    slowest = max(statistics.median(values) for name, values in times.items() if name.endswith("at once"))
    print(f"aim: at once below {AIM} s: {'met' if slowest < AIM else 'missed'}")
    if options.json:
        options.json.write_text(json.dumps(times, indent=2) + "\n")


if __name__ == "__main__":
    main()
