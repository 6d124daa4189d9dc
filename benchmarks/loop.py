"""How long `awrite_back` holds up the event loop that it is awaited on.

    python benchmarks/loop.py [--rounds N] [--json FILE] [--folder FOLDER]

A coroutine of the same loop sleeps for a millisecond again and again, and notes how long it takes.
The longest of a session is what the loop was held up: by the clock, and in CPU time of this
process, which leaves out what others do on a machine that is busy. "bare" is the same posts by the
same client, awaited in the same process in turn with the sessions: what httpx and the ticking cost
by themselves. The sessions have other numbers of operations and sizes of payloads, on a local
store, with the default policy. The plan and the final artifact are encoded in one piece each, with
Python's lock held, so large ones are what holds a loop up.
"""

import argparse
import asyncio
import contextlib
import json
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
from session import filesystem, loopback_server

from writeahead import Adapter, Operation, PlannedOperation, RunPolicy, awrite_back, emits, open_store

AIM_MS = 50
TICK = 0.001
# operations, bytes of each payload, the part of the rounds that it gets
SHAPES = [
    (3, 300, 1.0),
    (100, 300, 1.0),
    (1000, 300, 0.2),
    (2000, 300, 0.1),
    (3, 1_000_000, 1.0),
    (10, 1_000_000, 0.5),
    (30, 1_000_000, 0.2),
]


# By the clock, and in CPU time, of each session: milliseconds.
Delays = list[tuple[float, float]]


class Poster(Adapter):
    name = "poster"

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client

    @emits("create_with_key")
    async def emit_post(self, payload: dict[str, Any], _operation: PlannedOperation) -> None:
        await post(self.client, payload)


async def post(client: httpx.AsyncClient, payload: dict[str, Any]) -> None:
    (await client.post("/", json=payload)).raise_for_status()


@contextlib.asynccontextmanager
async def ticking(delays: Delays) -> AsyncIterator[None]:
    """Note how many milliseconds the loop was held up at most, while the block runs."""
    wall, cpu, over = 0.0, 0.0, False

    async def tick() -> None:
        nonlocal wall, cpu
        while not over:
            due, spent = time.perf_counter() + TICK, time.process_time()
            await asyncio.sleep(TICK)
            wall = max(wall, time.perf_counter() - due)
            cpu = max(cpu, time.process_time() - spent)

    ticker = asyncio.create_task(tick())
    await asyncio.sleep(0)
    yield
    over = True
    await ticker
    delays.append((wall * 1000, cpu * 1000))


async def measure(url: str, folder: Path, rounds: int) -> dict[tuple[int, int], dict[str, Delays]]:
    """Return the longest delay of each session, in milliseconds, by shape and contender."""
    found: dict[tuple[int, int], dict[str, Delays]] = {}
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        adapter, store = Poster(client), open_store(folder)
        for operations, size, part in SHAPES:
            payloads = [{"number": number, "text": "x" * size} for number in range(operations)]
            delays = found[operations, size] = {"bare": [], "awrite_back": []}
            # The first one warms up, and does not count.
            for number in range(max(3, round(rounds * part)) + 1):
                async with ticking(delays["bare"]):
                    for payload in payloads:
                        await post(client, payload)
                asked = [Operation(kind="post", payload=payload) for payload in payloads]
                async with ticking(delays["awrite_back"]):
                    report = await awrite_back(
                        asked,
                        session_id=f"s-{operations}-{size}-{number}",
                        store=store,
                        adapter=adapter,
                        policy=RunPolicy(run_limit=3600, lease=3600),
                    )
                report.raise_for_status()
            for values in delays.values():
                del values[0]
    return found


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30, help="sessions of the small shapes (default: 30)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument("--folder", type=Path, default=Path(), help="on a real disk (default: .)")
    options = parser.parse_args()
    if not options.folder.is_dir():
        parser.error(f"--folder: {options.folder} is no folder")
    return options


def main() -> None:
    options = arguments()
    with (
        tempfile.TemporaryDirectory(prefix=".bench-", dir=options.folder) as name,
        loopback_server() as url,
    ):
        found = asyncio.run(measure(url, Path(name).resolve(), options.rounds))
    print(f"the longest delay of the loop, in ms; aim: below {AIM_MS}; {filesystem(options.folder)[0]}")
    print(f"{'operations':>10} {'bytes':>8} {'sessions':>8} {'':12} {'median':>8} {'longest':>8} {'CPU':>8}")
    figures = []
    for (operations, size), delays in found.items():
        for contender, values in delays.items():
            walls, cpus = zip(*values, strict=True)
            line = {
                "operations": operations,
                "bytes": size,
                "sessions": len(values),
                "contender": contender,
                "median_ms": statistics.median(walls),
                "longest_ms": max(walls),
                "cpu_ms": statistics.median(cpus),
            }
            figures.append(line)
            print(
                f"{operations:10} {size:8} {len(values):8} {contender:12}"
                f" {line['median_ms']:8.1f} {line['longest_ms']:8.1f} {line['cpu_ms']:8.1f}"
            )
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
