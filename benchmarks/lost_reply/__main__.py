"""The lost-reply benchmark: what is doubled, lost or overwritten if a reply is lost, or a process.

    python -m benchmarks.lost_reply [--jobs N] [--only NAME ...] [--log FILE]
    python -m benchmarks.lost_reply.table

The first command plays all scenarios and writes result.json beside this file; with --only, it
replaces the results of these parts. The second makes the tables of README.md and
benchmarks/README.md from it.
"""

import argparse
import datetime as dt
import itertools
import json
import os
import platform
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.lost_reply.contenders.writeahead_folder import RUN_AGAIN
from benchmarks.lost_reply.driver import ROOT
from benchmarks.lost_reply.remote import EDITS, SETUPS

RESULT = Path(__file__).with_name("result.json")
OURS = "writeahead_folder"
PEERS = (
    "prefect_transactions",
    "dbos_sqlite",
    "dlt_destination",
    "celery_redis",
    "langgraph_sqlite",
    "tenacity_alone",
    "sidecar",
)
PAIRS = [(*two, "") for two in itertools.product(SETUPS, EDITS)] + [
    (one, EDITS[0], RUN_AGAIN) for one in SETUPS
]
PARTS = [*((name,) for name in (*PEERS, OURS)), *((OURS, *pairs) for pairs in PAIRS)]


def played(part: tuple[str, ...]) -> dict:
    command = [sys.executable, "-m", "benchmarks.lost_reply.play", *part]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"{name_of(part)}: exit code {done.returncode}")
    return json.loads(done.stdout)


def name_of(part: tuple[str, ...]) -> str:
    return ", ".join(filter(None, part))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--jobs", type=int, default=2, help="processes at once, each with a remote of its own"
    )
    parser.add_argument("--only", nargs="*", help="parts whose name begins so, such as sidecar")
    parser.add_argument("--log", type=Path, help="a file for each scenario that went wrong")
    options = parser.parse_args()
    parts = [part for part in PARTS if _is_wanted(name_of(part), options.only)]
    writing = threading.Lock()

    def play(part: tuple[str, ...]) -> None:
        result = played(part)
        with writing:
            _write(name_of(part), result, options.log)

    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(play, parts))


def _is_wanted(name: str, only: list[str] | None) -> bool:
    return only is None or name.startswith(tuple(only))


def _write(name: str, result: dict, log: Path | None) -> None:
    wrong = result.pop("wrong", [])
    if log:
        with log.open("a") as file:
            file.writelines(f"{name}: {line}\n" for line in wrong)
    everything = json.loads(RESULT.read_text()) if RESULT.exists() else {"parts": {}}
    everything["command"] = "python -m benchmarks.lost_reply"
    everything["system"] = f"{platform.system()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    everything["date"] = dt.datetime.now(dt.UTC).date().isoformat()
    everything["parts"][name] = result
    RESULT.write_text(json.dumps(everything, indent=1, sort_keys=True) + "\n")
    counts = result.get("counts", result.get("left_out"))
    print(f"{name}: {counts}", flush=True)


if __name__ == "__main__":
    main()
