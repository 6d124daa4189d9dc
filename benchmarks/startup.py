"""What importing writeahead costs beside pydantic alone, and how long the command line takes to start.

    python benchmarks/startup.py [--rounds 25]

The processes take turns, round by round; the figures are medians in milliseconds.
"""

import argparse
import statistics
import subprocess
import sys
import time

PYDANTIC = "import pydantic\nclass Model(pydantic.BaseModel):\n    name: str\nModel(name='x')"
PROCESSES = {
    "python": [sys.executable, "-c", "pass"],
    "pydantic and one model": [sys.executable, "-c", PYDANTIC],
    "the same and writeahead": [sys.executable, "-c", f"{PYDANTIC}\nimport writeahead"],
    "writeahead --version": [sys.executable, "-m", "writeahead", "--version"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    rounds = parser.parse_args().rounds
    times: dict[str, list[float]] = {name: [] for name in PROCESSES}
    for _ in range(rounds):
        for name, command in PROCESSES.items():
            before = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            times[name].append((time.perf_counter() - before) * 1e3)
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, value in medians.items():
        print(f"{name:26} {value:7.1f} ms")
    over = medians["the same and writeahead"] - medians["pydantic and one model"]
    print(f"import writeahead over pydantic's own: {over:.1f} ms (aim: at most 60)")
    print(f"writeahead --version: {medians['writeahead --version']:.0f} ms (aim: below 300)")


if __name__ == "__main__":
    main()
