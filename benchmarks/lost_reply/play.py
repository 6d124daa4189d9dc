"""Plays one part of the benchmark, and prints what came of it as JSON.

    python -m benchmarks.lost_reply.play NAME [SETUP EDIT VARIANT]

NAME is a module of contenders/. Alone it means the scenarios of a peer; with a set-up, an edit
and a variant of its settings, all pairs of faults in these.
"""

import contextlib
import importlib
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

from benchmarks.lost_reply.driver import Fault, Scenario, Stage, started
from benchmarks.lost_reply.remote import serving
from benchmarks.lost_reply.scenarios import Played, of_a_peer, of_pairs

# kill -9 leaves the page cache alone, so that a folder in memory is as good as one on a disk.
MEMORY = Path("/dev/shm")


def main(name: str, *pairs_of: str) -> None:
    contender = importlib.import_module(f"benchmarks.lost_reply.contenders.{name}")
    service = getattr(contender, "service", lambda _: contextlib.nullcontext())
    with contextlib.ExitStack() as stack:
        parent = MEMORY if MEMORY.is_dir() else None
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=parent)))
        remote = stack.enter_context(serving())
        try:
            stack.enter_context(service(folder))
        except ModuleNotFoundError as error:
            _print({"name": contender.NAME, "left_out": f"{error.name} is not installed"})
            return
        process = stack.enter_context(started(name, folder))
        if process.problem:
            _print({"name": contender.NAME, "left_out": process.problem})
            return
        has_template = getattr(contender, "HAS_TEMPLATE", False)
        stage = Stage(remote, process, has_template=has_template, answers=hasattr(contender, "answer"))
        if pairs_of:
            setup, edit, variant = pairs_of
            played = of_pairs(stage, Scenario(setup, edit, variant))
        else:
            played = of_a_peer(stage)
        versions = {package: version(package) for package in contender.PACKAGES}
        _print({"name": contender.NAME, "versions": versions} | counted(played))


def counted(played: Iterable[Played]) -> dict:
    """How many scenarios came to what, also by fault, and a line for each that went wrong."""
    counts: Counter[str] = Counter()
    by_fault: dict[str, Counter[str]] = {}
    wrong = []
    for scenario, outcome in played:
        faults = [fault for fault in (scenario.first, scenario.second) if fault != Fault()]
        counts["scenarios"] += 1
        counts["kills"] += any(fault.step or fault.name.startswith("killed") for fault in faults)
        counts["pairs"] += len(faults) > 1
        counts.update(outcome.verdicts)
        for verdict in outcome.verdicts - {"right"}:
            of_verdict = by_fault.setdefault(verdict, Counter())
            of_verdict[faults[-1].name or "killed at a local step"] += 1
        if outcome.verdicts - {"right", "asks"}:
            wrong.append(f"{scenario} {outcome}")
    return {"counts": dict(counts), "by_fault": by_fault, "wrong": wrong}


def _print(result: dict) -> None:
    json.dump(result, sys.stdout)
    print()


if __name__ == "__main__":
    main(*sys.argv[1:])
