"""What happens in the demo, told and asserted step by step."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from writeahead.demo.environment import SESSION_FILE, Act, Artifact, DemoFailed, Environment, set_stage
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
        console: Where it is told.
        store: A store's URL; ``s3`` for a bucket on a server of its own; by default a temporary
            folder.

    Returns:
        The facts, as JSON: what each phase sent, the artifacts, and the CRM's rows.

    Raises:
        DemoFailed: A claim does not hold.
        InvalidInput: The store can't be used, or a package that the demo needs is not installed.
    """
    with set_stage(store) as stage:
        return _Teller(console, stage).tell()


class _Teller:
    """Tells what it does, and stops where what it says is not so."""

    def __init__(self, console: Console, stage: Environment) -> None:
        self._console = console
        self._stage = stage
        self._width = min(console.width, _WIDTH)
        self._tick = "✓" if console.encoding.startswith("utf") else "ok:"
        self._claims: list[str] = []

    def tell(self) -> dict[str, Any]:
        stage = self._stage
        self._introduce()
        before = self._queue_status()

        self._title("1  The third write meets 503 until the retries are used up")
        stage.crm.faults.add("status", method="PATCH", path="tasks*", status=503, times=None)
        run = self._act(stage.run("run", SESSION_FILE, "--write"))
        self._claim(run.exit_code == 75, "exit code 75: run it again later")  # noqa: PLR2004 - documented
        parked = stage.artifacts()
        self._claim(_status(parked) == "resume_needed", "its journal says: resume_needed")
        self._claim(run.sent("tasks") == _ATTEMPTS, f"the task was tried {_ATTEMPTS} times, and is not there")

        self._title("2  What it left in the store")
        self._show_artifacts(parked)
        self._show_head(parked[stage.session_id + "/" + PLANNED])
        self._claim_plan(json.loads(parked[stage.session_id + "/" + PLANNED].text))
        self._claim(self._was_first(parked), "it was written before the first request that writes")
        self._claim(f"{stage.session_id}/{FINAL}" not in parked, f"no {FINAL}: the session is not done")
        self._claim(f".open/{stage.session_id}" in parked, "a marker, so that a sweep finds it")

        self._title("3  The CRM is well again: resume, in a new process")
        stage.crm.faults.clear()
        resume = self._act(stage.run("resume", stage.session_id))
        self._claim(resume.exit_code == 0, "exit code 0: completed")
        self._claim(
            [resume.sent(name) for name in ("phonecalls", "wa_callqueues", "tasks")] == [0, 0, 1],
            "only the missing task was sent",
        )
        finished = stage.artifacts()
        self._print(Text("\nNew in the store:"))
        self._show_artifacts({key: found for key, found in finished.items() if key not in parked})
        final = json.loads(finished[f"{stage.session_id}/{FINAL}"].text)
        outcomes = [operation["receipt"]["outcome"] for operation in final["operations"]]
        self._claim(outcomes == ["applied"] * 3, f"{FINAL}: every operation has its receipt")
        self._claim(f".open/{stage.session_id}" not in finished, "the marker is gone")
        kept = {key: found for key, found in parked.items() if not key.startswith(".")}
        self._claim(all(finished.get(key) == found for key, found in kept.items()), "no artifact was changed")

        self._title("4  Resume once more: nothing to do")
        again = self._act(stage.run("resume", stage.session_id))
        self._claim(again.exit_code == 0 and "no_resume_needed" in again.output, "exit code 0: nothing to do")
        self._claim(not again.requests, "nothing was sent")

        self._title("5  The CRM")
        crm = self._show_crm(before)
        self._print(Text(f"\n{self._tick} All {len(self._claims)} claims hold.", "bold green"))
        return {
            "ok": True,
            "session_id": stage.session_id,
            "store": stage.shown_store,
            "run": _document(run, _status(parked)),
            "artifacts": {"after_run": _sizes(parked), "after_resume": _sizes(finished)},
            "resume": _document(resume, "completed"),
            "resume_again": _document(again, "no_resume_needed"),
            "crm": crm,
            "claims": self._claims,
        }

    def _introduce(self) -> None:
        self._title("writeahead demo")
        table = _plain_table()
        for name, text in (
            (
                "job",
                "a call ended with 'interested, call me back': write phone call, queue row, and task",
            ),
            ("CRM", f"a Dataverse Web API, simulated on {self._stage.crm.url}"),
            ("store", self._stage.shown_store),
        ):
            table.add_row(Text(name, "bold"), Text(text))
        self._print(table)

    def _act(self, act: Act) -> Act:
        self._print(Text(f"$ {act.command}", "bold cyan"))
        for line in act.output.splitlines():
            self._print(Text("  " + line))
        self._print(Text(f"exit code {act.exit_code}", "bold"))
        if not act.requests:
            return act
        self._print(Text("\nWhat reached the CRM:"))
        table = _plain_table()
        for method, resource, status, times in act.requests:
            style = "green" if status and status < 400 else "red"  # noqa: PLR2004 - HTTP's own border
            often = f"{times} times" if times > 1 else ""
            table.add_row(method, Text(resource), Text(str(status), style), often)
        self._print(table)
        return act

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
        asked = [operation["kind"] for operation in self._stage.operations]
        planned = [operation["kind"] for operation in plan["operations"] if operation["payload"]]
        self._claim(planned == asked, f"{PLANNED} holds all three payloads")

    def _was_first(self, artifacts: Mapping[str, Artifact]) -> bool:
        planned_at = artifacts[f"{self._stage.session_id}/{PLANNED}"].written_at
        first = self._stage.crm.requests(method="PATCH")[0]
        return planned_at is not None and planned_at <= first.received_at

    def _queue_status(self) -> str:
        row = self._stage.crm.row("wa_callqueues", self._row_id())
        if row is None:
            raise DemoFailed("the CRM has no queue row")
        return _STATUSES.get(row["wa_status"], str(row["wa_status"]))

    def _row_id(self) -> str:
        (queue,) = (op for op in self._stage.operations if op["kind"] == "queue_status_update")
        return str(queue["payload"]["row_id"])

    def _show_crm(self, before: str) -> dict[str, Any]:
        crm, session_id = self._stage.crm, self._stage.session_id
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

    def _claim(self, holds: bool, text: str) -> None:  # noqa: FBT001 - one word less to read at each claim
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
    """The status that the newest journal entry tells."""
    newest = max(key for key in artifacts if "/journal/" in key)
    status: str | None = json.loads(artifacts[newest].text).get("status")
    return status


def _session_of(row: Mapping[str, Any]) -> str:
    """The session that a row of the CRM says it was written by."""
    return str(row.get("wa_sessionid") or "")


def _sizes(artifacts: Mapping[str, Artifact]) -> dict[str, int]:
    return {key: found.size for key, found in artifacts.items()}


def _document(act: Act, status: str | None) -> dict[str, Any]:
    requests: Sequence[Any] = [
        {"method": method, "resource": resource, "status": code, "times": times}
        for method, resource, code, times in act.requests
    ]
    return {"command": act.command, "exit_code": act.exit_code, "status": status, "requests": requests}


def _cut(line: str, width: int) -> str:
    return line if len(line) <= width else line[: width - 3] + "..."
