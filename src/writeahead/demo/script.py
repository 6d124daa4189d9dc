"""What the demo does and claims, step by step."""

import json
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from writeahead.demo.environment import (
    SESSION_FILE,
    Artifact,
    CommandRun,
    DemoFailed,
    Environment,
    demo_environment,
)
from writeahead.model import RunPolicy
from writeahead.protocol.keys import FINAL, PLANNED

__all__ = ["run_demo"]

_WIDTH = 100
_HEAD_LINES = 14
_ATTEMPTS = RunPolicy().attempts
_STATUSES = {100000001: "in_progress", 100000003: "callback_requested"}


def run_demo(console: Console, *, store: str | None = None) -> dict[str, Any]:
    """Run the main job: a run whose third write fails, and a resume in a new process.

    Args:
        console: Where it prints.
        store: A store's URL; ``s3`` for a bucket on a server of the demo's own; by default a
            temporary folder.

    Returns:
        The facts, as JSON: the requests of each command, the artifacts, and the CRM's rows.

    Raises:
        DemoFailed: A claim does not hold.
        InvalidInput: The store can't be used, or a package that the demo needs is not installed.
    """
    with demo_environment(store) as environment:
        return _Script(console, environment).run()


class _Script:
    """Prints what it does and claims, and ends with the first claim that does not hold."""

    def __init__(self, console: Console, environment: Environment) -> None:
        self._console = console
        self._environment = environment
        self._session = environment.session_id
        self._width = min(console.width, _WIDTH)
        self._tick = "✓" if console.encoding.startswith("utf") else "ok:"
        self._claims: list[str] = []

    def run(self) -> dict[str, Any]:
        self._introduce()
        before = self._queue_status()
        failed, parked = self._run_that_fails()
        self._show_parked(parked)
        resumed, finished = self._resume(parked)
        again = self._resume_again()
        self._title("5  The CRM")
        crm = self._show_crm(before)
        self._print(Text(f"\n{self._tick} All {len(self._claims)} claims hold.", "bold green"))
        return {
            "ok": True,
            "session_id": self._session,
            "store": self._environment.shown_store,
            "run": _document(failed, _status(parked)),
            "artifacts": {"after_run": _sizes(parked), "after_resume": _sizes(finished)},
            "resume": _document(resumed, "completed"),
            "resume_again": _document(again, "no_resume_needed"),
            "crm": crm,
            "claims": self._claims,
        }

    def _run_that_fails(self) -> tuple[CommandRun, Mapping[str, Artifact]]:
        self._title("1  The third write meets 503 until all attempts are used up")
        faults = self._environment.crm.faults
        faults.add("status", method="PATCH", path="tasks*", status=503, times=None)
        run = self._command("run", SESSION_FILE, "--write")
        self._claim(run.exit_code == 75, "exit code 75: run it again later")  # noqa: PLR2004 - documented
        parked = self._environment.artifacts()
        self._claim(_status(parked) == "resume_needed", "its journal says: resume_needed")
        self._claim(run.sent("tasks") == _ATTEMPTS, f"the task was sent {_ATTEMPTS} times, and is not there")
        return run, parked

    def _show_parked(self, parked: Mapping[str, Artifact]) -> None:
        self._title("2  What it left in the store")
        self._show_artifacts(parked)
        plan = parked[f"{self._session}/{PLANNED}"]
        self._show_head(plan)
        self._claim_plan(json.loads(plan.text))
        self._claim(self._was_first(plan), "it was written before the first request that writes")
        self._claim(f"{self._session}/{FINAL}" not in parked, f"no {FINAL}: the session is not done")
        self._claim(f".open/{self._session}" in parked, "a marker, so that a sweep finds it")

    def _resume(self, parked: Mapping[str, Artifact]) -> tuple[CommandRun, Mapping[str, Artifact]]:
        self._title("3  The CRM works again: resume, in a new process")
        self._environment.crm.faults.clear()
        run = self._command("resume", self._session)
        self._claim(run.exit_code == 0, "exit code 0: completed")
        self._claim(
            [run.sent(name) for name in ("phonecalls", "wa_callqueues", "tasks")] == [0, 0, 1],
            "only the missing task was sent",
        )
        finished = self._environment.artifacts()
        self._print(Text("\nNew in the store:"))
        self._show_artifacts({key: found for key, found in finished.items() if key not in parked})
        final = json.loads(finished[f"{self._session}/{FINAL}"].text)
        outcomes = [operation["receipt"]["outcome"] for operation in final["operations"]]
        self._claim(outcomes == ["applied"] * 3, f"{FINAL}: every operation has its receipt")
        self._claim(f".open/{self._session}" not in finished, "the marker is gone")
        kept = {key: found for key, found in parked.items() if not key.startswith(".")}
        self._claim(all(finished.get(key) == found for key, found in kept.items()), "no artifact was changed")
        return run, finished

    def _resume_again(self) -> CommandRun:
        self._title("4  Resume again: nothing to do")
        run = self._command("resume", self._session)
        self._claim(run.exit_code == 0 and "no_resume_needed" in run.output, "exit code 0: nothing to do")
        self._claim(not run.requests, "nothing was sent")
        return run

    def _introduce(self) -> None:
        self._title("writeahead demo")
        table = _plain_table()
        for name, text in (
            (
                "job",
                "a call ended with 'interested, call me back': write phone call, queue row, and task",
            ),
            ("CRM", f"a Dataverse Web API, simulated on {self._environment.crm.url}"),
            ("store", self._environment.shown_store),
        ):
            table.add_row(Text(name, "bold"), Text(text))
        self._print(table)

    def _command(self, *arguments: str) -> CommandRun:
        """Run a command, and show its output and its requests."""
        run = self._environment.run(*arguments)
        self._print(Text(f"$ {run.command}", "bold cyan"))
        for line in run.output.splitlines():
            self._print(Text(_folded("  " + line, self._width)))
        self._print(Text(f"exit code {run.exit_code}", "bold"))
        if not run.requests:
            return run
        self._print(Text("\nWhat reached the CRM:"))
        table = _plain_table()
        for method, resource, status, times in run.requests:
            style = "green" if status and status < 400 else "red"  # noqa: PLR2004 - HTTP's own border
            often = f"{times} times" if times > 1 else ""
            table.add_row(method, Text(resource), Text(str(status), style), often)
        self._print(table)
        return run

    def _show_artifacts(self, artifacts: Mapping[str, Artifact]) -> None:
        table = _plain_table()
        for key, found in artifacts.items():
            table.add_row(Text(key), Text(f"{found.size} bytes", justify="right"))
        self._print(table)

    def _show_head(self, plan: Artifact) -> None:
        self._print(Text(f"\nThe first lines of {PLANNED}:"))
        for line in [*plan.text.splitlines()[:_HEAD_LINES], "  ..."]:
            self._print(Text("  " + _cut(line, self._width - 2), "dim"))

    def _claim_plan(self, plan: Mapping[str, Any]) -> None:
        asked = [operation["kind"] for operation in self._environment.operations]
        planned = [operation["kind"] for operation in plan["operations"] if operation["payload"]]
        self._claim(planned == asked, f"{PLANNED} holds all three payloads")

    def _was_first(self, plan: Artifact) -> bool:
        planned_at = plan.written_at
        first = self._environment.crm.requests(method="PATCH")[0]
        return planned_at is not None and planned_at <= first.received_at

    def _queue_status(self) -> str:
        row = self._environment.crm.row("wa_callqueues", self._row_id())
        if row is None:
            raise DemoFailed("the CRM has no queue row")
        return _STATUSES.get(row["wa_status"], str(row["wa_status"]))

    def _row_id(self) -> str:
        (queue,) = (op for op in self._environment.operations if op["kind"] == "queue_status_update")
        return str(queue["payload"]["row_id"])

    def _show_crm(self, before: str) -> dict[str, Any]:
        crm, session_id = self._environment.crm, self._session
        calls, tasks = crm.rows("phonecalls"), crm.rows("tasks")
        after = self._queue_status()
        transitions = crm.requests(method="PATCH", path=f"wa_callqueues({self._row_id()})", applied=True)
        table = _plain_table()
        for call in calls:
            table.add_row("phone call", Text(call["subject"]), Text(_session_of(call)))
        table.add_row("queue row", Text(f"{before} -> {after}"), Text(session_id))
        for task in tasks:
            table.add_row("task", Text(task["subject"]), Text(_session_of(task)))
        self._print(table)
        self._claim([_session_of(call) for call in calls] == [session_id], "one phone call")
        self._claim(
            (before, after, len(transitions)) == ("in_progress", "callback_requested", 1),
            "one transition of the queue row",
        )
        self._claim([_session_of(task) for task in tasks] == [session_id], "one task")
        return {
            "phone_calls": [call["subject"] for call in calls],
            "queue_transitions": [f"{before} -> {after}"] * len(transitions),
            "tasks": [task["subject"] for task in tasks],
        }

    def _claim(self, holds: bool, text: str) -> None:  # noqa: FBT001 - a keyword would say nothing more
        if not holds:
            raise DemoFailed(f"this does not hold: {text}")
        self._claims.append(text)
        self._print(Text(f"{self._tick} {text}", "green"))

    def _title(self, text: str) -> None:
        self._print("")
        self._print(Rule(Text(text, "bold"), align="left", style="dim"))

    def _print(self, what: RenderableType) -> None:
        self._console.print(what, width=self._width)


def _plain_table() -> Table:
    return Table(box=None, show_header=False, pad_edge=False, padding=(0, 3, 0, 0))


def _status(artifacts: Mapping[str, Artifact]) -> str | None:
    """Return the status in the newest journal entry."""
    newest = max(key for key in artifacts if "/journal/" in key)
    status: str | None = json.loads(artifacts[newest].text).get("status")
    return status


def _session_of(row: Mapping[str, Any]) -> str:
    """Return the session in a row's marker."""
    return str(row.get("wa_sessionid") or "")


def _sizes(artifacts: Mapping[str, Artifact]) -> dict[str, int]:
    return {key: found.size for key, found in artifacts.items()}


def _document(run: CommandRun, status: str | None) -> dict[str, Any]:
    requests: Sequence[Any] = [
        {"method": method, "resource": resource, "status": code, "times": times}
        for method, resource, code, times in run.requests
    ]
    return {"command": run.command, "exit_code": run.exit_code, "status": status, "requests": requests}


def _folded(line: str, width: int) -> str:
    """A line over as many lines as it takes, the others with a deeper indent."""
    return textwrap.fill(line, width, subsequent_indent="      ", break_on_hyphens=False)


def _cut(line: str, width: int) -> str:
    return line if len(line) <= width else line[: width - 3] + "..."
