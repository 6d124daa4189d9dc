"""What importing writeahead costs on top of pydantic, and how long the command line takes to start.

    python benchmarks/startup.py [--rounds N] [--json FILE]

Each process is started once in each round, in turn, so that other load affects all
alike. Python's own start is included; an import is the difference from a process that imports
pydantic and makes one model. The aims are for wall time; CPU time stands beside it, because other
work on the machine hits it less.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PYDANTIC = "import pydantic\nclass Model(pydantic.BaseModel):\n    name: str\nModel(name='x')"
BASE = "pydantic and one model"
# Public names are loaded at first use, so the plain import is not all that a program waits for.
IMPORTS = {"import writeahead": "import writeahead", "all its names": "from writeahead import *"}
PROCESSES = {
    "python": [sys.executable, "-c", "pass"],
    BASE: [sys.executable, "-c", PYDANTIC],
    **{name: [sys.executable, "-c", f"{PYDANTIC}\n{line}"] for name, line in IMPORTS.items()},
    "python -m writeahead --version": [sys.executable, "-m", "writeahead", "--version"],
    # The command as pip installs it: beside the interpreter.
    "writeahead --version": [str(Path(sys.executable).with_name("writeahead")), "--version"],
}
AIMS = {f"{name}, over pydantic's": "at most 60" for name in IMPORTS} | {"writeahead --version": "below 300"}


Environment = dict[str, str]


def works(command: list[str], env: Environment) -> bool:
    try:
        return subprocess.run(command, env=env, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def run(command: list[str], env: Environment) -> tuple[float, float]:
    """Return the milliseconds that a process takes: by the wall clock, and of CPU."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return wall * 1000, cpu * 1000


def measure(rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Return what each round took, by process; a process that fails is left out."""
    times: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as cache:
        # A checkout's modules may never have been compiled, as an installed package's are. Here all
        # are.
        env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        env["PYTHONPYCACHEPREFIX"] = cache
        for name, command in PROCESSES.items():
            if works(command, env):  # this first start compiles
                times[name] = []
            else:
                print(f"{name}: n/a: it can't be run, or fails")
        for _ in range(rounds):
            for name, values in times.items():
                values.append(run(PROCESSES[name], env))
    return times


def summary(times: list[tuple[float, float]]) -> dict[str, float]:
    walls, cpus = zip(*times, strict=True)
    low, middle, high = statistics.quantiles(walls, n=4)
    return {"wall_ms": middle, "p25_ms": low, "p75_ms": high, "cpu_ms": statistics.median(cpus)}


def over(times: list[tuple[float, float]], base: list[tuple[float, float]]) -> dict[str, float]:
    """Compare: the differences of the medians, and the quartiles of the rounds' own differences."""
    found = summary([(a[0] - b[0], a[1] - b[1]) for a, b in zip(times, base, strict=True)])
    for key in ("wall_ms", "cpu_ms"):
        found[key] = summary(times)[key] - summary(base)[key]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=25, help="processes of each kind (default: 25)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    options = parser.parse_args()
    if options.rounds < 2:
        parser.error("--rounds: at least 2")
    times = measure(options.rounds)
    figures = {name: summary(values) for name, values in times.items()}
    for name in IMPORTS:
        if {name, BASE} <= times.keys():
            figures[f"{name}, over pydantic's"] = over(times[name], times[BASE])
    print(f"{'':34} {'wall ms':>8} {'p25':>8} {'p75':>8} {'cpu ms':>8}  aim")
    for name, found in figures.items():
        print(f"{name:34}", *(f"{value:8.1f}" for value in found.values()), f" {AIMS.get(name, '')}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
