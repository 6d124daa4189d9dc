"""The time of a session of three operations, next to its lower bound and to other tools.

    python benchmarks/session.py [--rounds N] [--json FILE] [--folder FOLDER]

Every contender has a process and a folder of its own, posts the same three payloads to the same
loopback server with the same client, and runs one session in each round, in turn. So other load
affects all of them alike. The ratios count; the milliseconds are this machine's.

- writeahead: `write_back` on a local store, with the default policy and with `journal_interval=0`.
- bare: the lower bound of each. The same files, bytes, syncs and requests, by system calls and the
  client.
- far away: a store whose requests take 20 ms, and a remote that takes 50 ms more. The bound is
  three posts and four requests to the store.
- DBOS: a workflow of three steps; its system database is SQLite, set up as DBOS does by default.
- LangGraph: a graph of three nodes with the SQLite checkpointer, durability "sync".

The calls that force data to disk are counted by strace in separate runs, which are not timed.
"""

import argparse
import contextlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from contenders import CONTENDERS, FAR
from rich import box
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
SYNC_CALLS = "fsync,fdatasync,sync_file_range,msync"
MEMORY = {"tmpfs", "ramfs"}
PACKAGES = ("writeahead", "httpx", "pydantic", "dbos", "langgraph", "langgraph-checkpoint-sqlite")
WARM_UP = 5
COUNTED = 20
AIMS = [  # what, of what, aim
    ("writeahead", "bare", "at most 1.2"),
    ("writeahead, interval 0", "bare, interval 0", "none"),
    ("DBOS", "writeahead", "at least 3.5"),
    ("DBOS", "writeahead, interval 0", "none"),
    ("LangGraph", "writeahead", "at least 2"),
    ("LangGraph", "writeahead, interval 0", "none"),
    ("writeahead, far away", "bare, far away", "at most 1.1"),
]


class Contender:
    """A contender's process, run one session at a time."""

    def __init__(self, name: str, folder: Path, url: str, under: tuple[str, ...] = ()) -> None:
        self.name = name
        self.sessions = 0
        command = [*under, sys.executable, str(HERE / "contenders.py"), name, str(folder), url]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        said = self.process.stdout.readline().strip()
        self.problem = "" if said == "ready" else said or "it ended while it was set up"

    def run(self) -> float:
        """Run one session; return its seconds."""
        self.sessions += 1
        self.process.stdin.write(f"session-{self.sessions:06d}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"{self.name} ended in session {self.sessions}: see its message above")
        return float(answer)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


@contextlib.contextmanager
def loopback_server(wait: float = 0.0) -> Iterator[str]:
    pipe = subprocess.PIPE
    command = [sys.executable, str(HERE / "loopback.py"), str(wait)]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as server:
        yield f"http://127.0.0.1:{server.stdout.readline().strip()}/"
        server.stdin.close()


@contextlib.contextmanager
def started(names: Sequence[str], folder: Path, url: str) -> Iterator[list[Contender]]:
    """Start every contender that is installed; print the names of the others."""
    everyone = [Contender(name, folder / name, url) for name in names]
    try:
        for contender in everyone:
            if contender.problem:
                print(f"{contender.name}: left out: {contender.problem}")
        yield [contender for contender in everyone if not contender.problem]
    finally:
        for contender in everyone:
            contender.close()


def measure(names: Sequence[str], folder: Path, url: str, rounds: int) -> dict[str, list[float]]:
    """Return the milliseconds of each round, by contender."""
    with started(names, folder, url) as contenders:
        for _ in range(WARM_UP):
            for contender in contenders:
                contender.run()
        times: dict[str, list[float]] = {contender.name: [] for contender in contenders}
        for _ in range(rounds):
            for contender in contenders:
                times[contender.name].append(contender.run() * 1000)
    return times


def sync_calls(name: str, folder: Path, url: str) -> float | None:
    """Count a session's sync calls, as the difference of two runs, without the set-up."""
    if shutil.which("strace") is None:
        return None
    counts = []
    for sessions in (WARM_UP, WARM_UP + COUNTED):
        trace = folder / f"strace-{name}-{sessions}"
        under = ("strace", "-f", "-qq", "-e", f"trace={SYNC_CALLS}", "-o", str(trace))
        contender = Contender(name, trace.with_suffix(".store"), url, under)
        for _ in range(0 if contender.problem else sessions):
            contender.run()
        contender.close()
        if contender.problem:
            return None
        # A call that another thread's call interrupts is on two lines; only the first has a bracket
        # after it.
        calls = tuple(f"{call}(" for call in SYNC_CALLS.split(","))
        counts.append(sum(any(call in line for call in calls) for line in trace.read_text().splitlines()))
    return (counts[1] - counts[0]) / COUNTED


def filesystem(folder: Path) -> tuple[str, str]:
    """Return the type and device of the filesystem that a folder is on, as Linux names them."""
    try:
        mounts = [line.split(" ") for line in Path("/proc/self/mounts").read_text().splitlines()]
    except OSError:
        return "unknown", "unknown"
    real = str(folder.resolve()) + "/"
    above = (mount for mount in mounts if real.startswith(mount[1].rstrip("/") + "/"))
    device, _, kind, *_ = max(above, key=lambda mount: len(mount[1]))
    return kind, device


def spread(values: list[float]) -> tuple[float, float, float]:
    """Return the median and the quartiles around it."""
    low, middle, high = statistics.quantiles(values, n=4)
    return middle, low, high


def ratios(times: dict[str, list[float]]) -> list[dict]:
    """Compare: the ratio of the medians, and the quartiles of the rounds' own ratios."""
    compared = []
    for what, of, aim in AIMS:
        if what in times and of in times:
            _, low, high = spread([a / b for a, b in zip(times[what], times[of], strict=True)])
            ratio = statistics.median(times[what]) / statistics.median(times[of])
            compared.append({"what": what, "of": of, "aim": aim, "ratio": ratio, "p25": low, "p75": high})
    return compared


def installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def print_tables(figures: dict) -> None:
    console = Console(highlight=False, width=100)
    table = Table(box=box.SIMPLE, title=f"One session of three operations, {figures['rounds']} rounds")
    for heading in ("", "median ms", "p25", "p75", "sync calls"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, found in figures["contenders"].items():
        calls = "n/a" if found["sync_calls"] is None else f"{found['sync_calls']:g}"
        table.add_row(name, *(f"{found[key]:.2f}" for key in ("median_ms", "p25_ms", "p75_ms")), calls)
    console.print(table)
    table = Table(box=box.SIMPLE, title="Ratios of the medians")
    for heading in ("time of", "over that of", "ratio", "p25..p75 of the rounds", "aim"):
        table.add_column(heading)
    for line in figures["ratios"]:
        quartiles = f"{line['p25']:.2f}..{line['p75']:.2f}"
        table.add_row(line["what"], line["of"], f"{line['ratio']:.2f}", quartiles, line["aim"])
    console.print(table)
    console.print(", ".join(f"{name} {value}" for name, value in figures["environment"].items()))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=100, help="sessions of each contender (default: 100)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument("--folder", type=Path, default=Path(), help="on a real disk (default: .)")
    options = parser.parse_args()
    if options.rounds < 2:
        parser.error("--rounds: at least 2")
    if not options.folder.is_dir():
        parser.error(f"--folder: {options.folder} is no folder")
    if filesystem(options.folder)[0] in MEMORY:
        parser.error(
            f"--folder: {options.folder} is in memory, where a sync costs nothing; name one on a disk"
        )
    return options


def main() -> None:
    options = arguments()
    kind, device = filesystem(options.folder)
    with (
        tempfile.TemporaryDirectory(prefix=".bench-", dir=options.folder) as name,
        loopback_server() as url,
    ):
        folder = Path(name).resolve()
        # Apart from each other: a machine that sleeps for half of each round is slower in the rest.
        times = measure([name for name in CONTENDERS if FAR not in name], folder, url, options.rounds)
        times |= measure([name for name in CONTENDERS if FAR in name], folder, url, options.rounds)
        calls = {name: sync_calls(name, folder, url) for name in times}
    figures = {
        "rounds": options.rounds,
        "contenders": {
            name: dict(zip(("median_ms", "p25_ms", "p75_ms"), spread(values), strict=True))
            | {"sync_calls": calls[name]}
            for name, values in times.items()
        },
        "ratios": ratios(times),
        "environment": {
            "filesystem": f"{kind} on {device}",
            "cores": os.cpu_count(),
            "system": platform.platform(terse=True),
            "python": platform.python_version(),
            **{name: installed(name) for name in PACKAGES},
        },
    }
    print_tables(figures)
    if options.json:
        options.json.write_text(json.dumps(figures | {"rounds_ms": times}, indent=2) + "\n")


if __name__ == "__main__":
    main()
