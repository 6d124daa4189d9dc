"""Run mutmut as pyproject.toml says; print each module's score and survivors: docs/mutation.md.

    python tests/mutation/run.py                    # everything
    python tests/mutation/run.py journal stores.s3  # these modules

Ends with 1 if less than 90 % of the mutants are killed.
"""

import json
import os
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.mutation.survivors import changes, reasons
from tests.support.s3_server import running_server

REQUIRED = 90.0

# What mutmut keeps of a mutant: the exit code of its tests.
_KILLED = {1, 3}
_TIMEOUT = {-24, 24, 36, 152, 255}
_SURVIVED = {0, 5, 33}


@dataclass(frozen=True)
class Score:
    """The mutants of one module, by what became of them."""

    module: str
    killed: int
    timeout: int
    survivors: tuple[str, ...]
    unsure: tuple[str, ...]

    @property
    def count(self) -> int:
        return self.killed + self.timeout + len(self.survivors) + len(self.unsure)

    @property
    def percent(self) -> float:
        return 100 * (self.killed + self.timeout) / self.count if self.count else 100.0


def score_of(module: str, codes: Mapping[str, int | None]) -> Score:
    """Sort a module's mutants; one that was not run, or whose run failed, counts as not killed."""
    known = _KILLED | _TIMEOUT | _SURVIVED
    return Score(
        module,
        killed=sum(code in _KILLED for code in codes.values()),
        timeout=sum(code in _TIMEOUT for code in codes.values()),
        survivors=tuple(name for name, code in codes.items() if code in _SURVIVED),
        unsure=tuple(name for name, code in codes.items() if code not in known),
    )


def modules() -> list[str]:
    """The modules of mutmut's configuration, as Python names them."""
    settings = tomllib.loads(Path("pyproject.toml").read_text())["tool"]["mutmut"]
    return [
        path.removeprefix("src/").removesuffix(".py").replace("/", ".") for path in settings["only_mutate"]
    ]


def scores(wanted: Iterable[str]) -> list[Score]:
    found = []
    for module in wanted:
        meta = _mutants(module).with_suffix(".py.meta")
        found.append(score_of(module, json.loads(meta.read_text())["exit_code_by_key"]))
    return found


def _mutants(module: str) -> Path:
    return Path("mutants/src", *module.split(".")).with_suffix(".py")


def show(found: Iterable[Score]) -> float:
    """Print the survivors and the table; return the score of all."""
    found = list(found)
    listed = reasons()
    for score in found:
        names = (*score.survivors, *score.unsure)
        for name, change in changes(names, _mutants(score.module).read_text()).items():
            what = "unsure  " if name in score.unsure else "survived"
            print(what, name, "listed" if change in listed else f"NOT LISTED {json.dumps(change)}")
    print(f"\n{'module':32}{'mutants':>9}{'killed':>8}{'in time':>9}{'survive':>9}{'score':>8}")
    for score in [*found, _total(found)]:
        print(
            f"{score.module:32}{score.count:9}{score.killed:8}{score.timeout:9}"
            f"{len(score.survivors) + len(score.unsure):9}{score.percent:7.1f}%"
        )
    return _total(found).percent


def _total(found: Iterable[Score]) -> Score:
    found = list(found)
    return Score(
        "all",
        sum(score.killed for score in found),
        sum(score.timeout for score in found),
        tuple(name for score in found for name in score.survivors),
        tuple(name for score in found for name in score.unsure),
    )


def main(given: list[str]) -> int:
    wanted = [name for name in modules() if not given or name.removeprefix("writeahead.") in given]
    if len(wanted) < len(given):
        known = ", ".join(name.removeprefix("writeahead.") for name in modules())
        print(f"give names of: {known}", file=sys.stderr)
        return 2
    began = time.monotonic()
    if not given:
        # Nothing of an earlier run: its tests were others.
        shutil.rmtree("mutants", ignore_errors=True)
    patterns = [f"{name}.*" for name in wanted]
    with running_server() as url:
        command = ["mutmut", "run", "--max-children", str(os.cpu_count() or 2), *patterns]
        ended = subprocess.run(command, env={**os.environ, "WRITEAHEAD_S3_SERVER": url}, check=False)
    if ended.returncode:
        print(f"mutmut did not come to its end ({ended.returncode}): no score", file=sys.stderr)
        return 3
    percent = show(scores(wanted))
    print(f"{time.monotonic() - began:.0f} seconds")
    return 0 if percent >= REQUIRED else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
