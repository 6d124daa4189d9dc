"""Plays scenarios: a run that meets a fault, its recoveries, and what came of it at the remote."""

import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.lost_reply.remote import AT_THE_CLIENT, Remote, Truth

ROOT = Path(__file__).parents[2]
# Recoveries after which a session counts as stuck.
ROUNDS = 6
SESSION = "call-7"


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong: at an exchange, or a kill at a local step.

    Attributes:
        exchange: Its number from 1; 0 for none.
        name: One of `remote.FAULTS`.
        step: The local step to die at, from 1; 0 for none.
    """

    exchange: int = 0
    name: str = ""
    step: int = 0


@dataclass(frozen=True)
class Scenario:
    """A set-up of the remote, an edit by others, faults of the run and of its first recovery.

    ``variant`` is of the contender's settings.
    """

    setup: str
    edit: str = "none"
    variant: str = ""
    first: Fault = Fault()
    second: Fault = Fault()


@dataclass(frozen=True)
class Outcome:
    """What came of a scenario.

    Attributes:
        was_met: Whether each of its faults happened.
        has_asked: Whether it asked an operator at any time.
        said: What the contender said last: done, asks, again, failed or killed.
        why: Its message, if it asks or failed.
        duplicates, losses: Writes too many at the remote; writes missing there although it says
            done.
        is_overwritten: Whether an edit of others was overwritten.
        rounds: How many recoveries there were.
        steps: Local steps of the last process, if it was not killed.
    """

    was_met: bool
    has_asked: bool
    said: str
    why: str
    duplicates: int
    losses: int
    is_overwritten: bool
    rounds: int
    steps: int

    @property
    def verdicts(self) -> set[str]:
        """What went wrong, or "right" alone; an operator's question is no fault."""
        found = {
            "duplicate": self.duplicates > 0,
            "loss": self.losses > 0,
            "overwritten": self.is_overwritten,
            "stuck": self.said not in ("done", "asks"),
            "asks": self.has_asked,
        }
        return {name for name, is_so in found.items() if is_so} or {"right"}


class Contender:
    """A contender's process, and the folders of its scenarios."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        command = [sys.executable, "-m", "benchmarks.lost_reply.zygote", name, str(folder)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT)
        self.problem = json.loads(self.process.stdout.readline())["problem"]
        self.count = 0
        self.template = folder / "template"
        self.template.mkdir()
        self.has_template = False

    def ask(self, **job) -> dict:
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"{self.name}: its process has ended: see its message above")
        return json.loads(answer)

    def new_folder(self, start: Path | None = None) -> Path:
        """A folder for a scenario: what the contender sets up once, or a copy of another's."""
        self.count += 1
        new = self.folder / str(self.count)
        shutil.copytree(start or self.template, new)
        return new

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


@contextlib.contextmanager
def started(name: str, folder: Path) -> Iterator[Contender]:
    folder.mkdir(parents=True, exist_ok=True)
    contender = Contender(name, folder)
    try:
        yield contender
    finally:
        contender.close()


@dataclass(frozen=True)
class Start:
    """What a scenario's first process left: its folder, the remote's truth, and what it said."""

    folder: Path
    truth: Truth
    said: dict
    was_met: bool


class Stage:
    """A contender before a remote.

    Args:
        remote: It serves one contender at a time.
        contender: With a process of its own.
        has_template: Whether a scenario's folder holds what the contender sets up once.
        answers: Whether an operator answers a question of the contender truthfully, and the session
            goes on.
    """

    def __init__(
        self, remote: Remote, contender: Contender, *, has_template: bool = False, answers: bool = False
    ) -> None:
        self.remote, self.contender, self._variant = remote, contender, ""
        self._answers = answers
        if has_template:
            remote.forget("key")
            self._job("template", contender.template, 0, Fault())

    def play(self, scenario: Scenario, start: Start | None = None) -> Outcome:
        """Play a scenario to its end, or from what its first process left to its end."""
        if start is None:
            start = self.begin(scenario)
            folder = start.folder
        else:
            self.remote.forget(scenario.setup, scenario.edit, start.truth)
            folder = self.contender.new_folder(start.folder)
        said, met, rounds = start.said, start.was_met, 0
        while said["said"] not in ("done", "asks") and rounds < ROUNDS:
            rounds += 1
            fault = scenario.second if rounds == 1 else Fault()
            said, was_met = self._phase("recover", folder, rounds, fault)
            met &= was_met
        if rounds == 0 and scenario.second != Fault():
            met = False
        has_asked = said["said"] == "asks"
        while self._answers and said["why"].startswith("Unknown") and rounds < 2 * ROUNDS:
            rounds += 2
            truth = self.remote.truth
            facts = {"create": bool(truth.contacts), "email": truth.emails > 0}
            self._job("answer", folder, rounds - 1, Fault(), facts)
            said, _ = self._phase("recover", folder, rounds, Fault())
        shutil.rmtree(folder)
        return self._judged(said, met, has_asked, rounds)

    def begin(self, scenario: Scenario) -> Start:
        """Play a scenario's first process. Its folder stays until the contender ends."""
        self.remote.forget(scenario.setup, scenario.edit)
        self._variant = scenario.variant
        folder = self.contender.new_folder()
        said, was_met = self._phase("run", folder, 0, scenario.first)
        return Start(folder, self.remote.truth, said, was_met)

    def _phase(self, verb: str, folder: Path, number: int, fault: Fault) -> tuple[dict, bool]:
        """One process; then hours pass. Gives what it said, and whether the fault happened."""
        said = self._job(verb, folder, number, fault)
        self.remote.pass_time()
        if fault.step or fault.name in AT_THE_CLIENT:
            return said, said["said"] == "killed"
        return said, self.remote.was_met or not fault.exchange

    def _job(self, verb: str, folder: Path, number: int, fault: Fault, facts: dict | None = None) -> dict:
        at_client = fault.name in AT_THE_CLIENT
        self.remote.arm(*(() if at_client else (fault.exchange, fault.name)))
        return self.contender.ask(
            verb=verb,
            folder=str(folder),
            session=SESSION,
            round=number,
            variant=self._variant,
            facts=facts or {},
            url=f"{self.remote.url}/{self.remote.number}",
            setup=self.remote.setup,
            moment=fault.name if at_client else "",
            exchange=fault.exchange,
            deadly=fault.step,
        )

    def _judged(self, said: dict, met: bool, has_asked: bool, rounds: int) -> Outcome:
        truth = self.remote.truth
        effects = {"create": len(truth.contacts), "update": truth.updates, "email": truth.emails}
        is_done = said["said"] == "done"
        return Outcome(
            was_met=met,
            has_asked=has_asked,
            said=said["said"],
            why=said["why"],
            duplicates=sum(max(0, count - 1) for count in effects.values()),
            losses=sum(count == 0 for count in effects.values()) if is_done else 0,
            is_overwritten=truth.is_overwritten,
            rounds=rounds,
            steps=said["steps"],
        )
