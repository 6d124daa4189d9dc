"""Stores for the HTML report to be seen on: one as from daily work, a large one, a hostile one."""

import contextlib
from datetime import UTC, datetime
from unittest import mock

from pydantic import BaseModel, ConfigDict

from writeahead import (
    Adapter,
    Receipt,
    RunPolicy,
    abandon_session,
    emits,
    resume_session,
    unblock_session,
    write_back,
    write_planned_writeback_artifact,
)
from writeahead.errors import Applied, ConflictError, PermanentError, TransientError
from writeahead.protocol import journal, runner
from writeahead.protocol.schema import Holder
from writeahead.stores.memory import MemoryStore
from writeahead.testing import ManualClock

START = datetime(2026, 11, 27, 6, 2, 11, tzinfo=UTC)


class Killed(BaseException):
    """Ends a run as a kill would: the journal is left as it is."""


class Fields(BaseModel):
    model_config = ConfigDict(extra="allow")


class Crm(Adapter):
    """A remote that takes a second and more, and answers as it is told, by operation."""

    name = "crm"

    def __init__(self, clock, script):
        self.clock = clock
        self.script = script

    def _send(self, operation):
        self.clock.advance(1.4)
        answers = self.script.get(operation.id)
        answer = answers.pop(0) if answers else None
        self.clock.killed = isinstance(answer, Killed)
        if answer is not None:
            raise answer
        number = f"{operation.key[:8]}-{operation.id}"
        return Receipt(remote_id=number, remote_version='W/"71042"', value={"number": f"T-{len(number)}"})

    @emits("create_with_key")
    def emit_activity(self, payload: Fields, operation) -> Receipt:
        return self._send(operation)

    @emits("conditional_update")
    def emit_queue_item(self, payload: Fields, operation) -> Receipt:
        return self._send(operation)

    @emits("upsert")
    def emit_task(self, payload: Fields, operation) -> Receipt:
        return self._send(operation)

    @emits("unprovable")
    def emit_email(self, payload: Fields, operation) -> Receipt:
        return self._send(operation)


class Day:
    """A store, a clock, and several machines that write to it."""

    def __init__(self, store=None, start=START):
        self.store = store or MemoryStore()
        self.clock = ManualClock(start, chance=0.3)
        self.clock.killed = False
        self.script = {}
        self.policy = RunPolicy(attempts=3, wait_initial=4, wait_max=30, journal_interval=5)

    @contextlib.contextmanager
    def machine(self, host, pid):
        holder = Holder(host=host, boot_id="b", pid_namespace="pid:[1]", pid=pid, started="1")
        with contextlib.ExitStack() as patches:
            for module in (journal, runner):
                patches.enter_context(mock.patch.object(module, "this_process", return_value=holder))
            yield

    @contextlib.contextmanager
    def surviving(self):
        """A run that meets `Killed` writes nothing any more, as after kill -9."""
        put = self.store._put

        def dying(*arguments, **more):
            if self.clock.killed:
                raise Killed
            return put(*arguments, **more)

        with mock.patch.object(self.store, "_put", dying), contextlib.suppress(Killed):
            yield
        self.clock.killed = False

    def run(self, session_id, *kinds, on=("worker-1", 4120), **more):
        operations = [{"kind": kind, "payload": payload_of(kind, n)} for n, kind in enumerate(kinds, 1)]
        with self.machine(*on), self.surviving():
            return write_back(operations, session_id=session_id, **self._tools(), **more)

    def resume(self, session_id, *, on=("worker-1", 4120), **more):
        with self.machine(*on), self.surviving():
            return resume_session(session_id, **self._tools(), **more)

    def _tools(self):
        adapter = Crm(self.clock, self.script)
        return {"store": self.store, "adapter": adapter, "policy": self.policy, "clock": self.clock}


def payload_of(kind, number):
    return {
        "subject": f"Call {2040 + number} with Aster & Vale",
        "owner": "queue:support-eu",
        "kind_of_work": kind,
        "minutes": 3 * number,
        "notes": "The caller asked for a written offer by Friday.",
    }


def down(retry_after=None):
    return TransientError(
        "POST activities: 503 Service Unavailable", applied=Applied.NO, retry_after=retry_after
    )


USUAL = ("activity", "queue_item", "task", "task", "activity")


def working_day(store=None):
    """Sessions in each state, as after a morning with an outage."""
    day = Day(store)
    _morning(day)
    _decisions(day)
    _the_rest(day)
    return day


def _morning(day):
    clock, script, usual = day.clock, day.script, USUAL
    for number in range(3):
        day.run(f"call-{1990 + number}", *usual, on=("worker-2", 811))
        clock.advance(240)

    # A long one: an outage, a kill and a takeover, then all is done.
    many = (*usual, "email", *usual, *usual)
    script["4-task"] = [down(), down(), down()]
    day.run("call-2003", *many)
    clock.advance(1900)
    script["6-email"] = [down(), down()]
    script["12-activity"] = [Killed()]
    day.resume("call-2003", on=("worker-2", 902))
    clock.advance(260)
    day.resume("call-2003", on=("worker-3", 77), take_over="worker-2 was replaced")
    script.clear()

    clock.advance(1200)


def _decisions(day):
    """Sessions that an operator has to decide about, and one that went on after a decision."""
    clock, script, usual = day.clock, day.script, USUAL
    script["2-email"] = [TransientError("POST emails: connection reset", applied=Applied.UNKNOWN)]
    day.run("call-2014", "activity", "email", "task")
    clock.advance(300)
    script["3-task"] = [PermanentError("PATCH tasks: 400: 'subject' has 412 characters, 200 are allowed")]
    day.run("call-2017", *usual, on=("worker-2", 902))
    clock.advance(500)
    script.clear()
    script["2-queue_item"] = [ConflictError("queue_items: 'owner' is queue:tier-2 now, was queue:support-eu")]
    day.run("call-2021", *usual, on=("worker-3", 77))
    clock.advance(3600)
    with day.machine("ops-1", 9):
        unblock_session("call-2021", store=day.store, reason="tier-2 gave it back", clock=clock)
    clock.advance(40)
    script["2-queue_item"] = [ConflictError("queue_items: 'owner' is queue:tier-3 now, was queue:tier-2")]
    day.resume("call-2021", on=("worker-3", 77))
    script.clear()


def _the_rest(day):
    clock, script, usual = day.clock, day.script, USUAL
    day.run("call-2026", *usual)
    clock.advance(60)
    script["1-activity"] = [PermanentError("POST activities: 403")]
    day.run("call-2029", *usual)
    abandon_session("call-2029", store=day.store, reason="the customer withdrew", clock=clock)
    script.clear()
    script["4-task"] = [down(1800.0)]
    day.run("call-2033", *usual, on=("worker-2", 1044))
    script["3-task"] = [down(), down(), down()]
    clock.advance(30)
    day.run("call-2035", *usual, on=("worker-1", 4120))
    script.clear()
    script["12-queue_item"] = [Killed()]
    day.run("call-2038", *usual, *usual, *usual, on=("worker-3", 77))
    script.clear()
    day.run("call-2040", *usual, on=("worker-1", 4120))
    write_planned_writeback_artifact(day.store, "invoice-88", Fields(ticket="T-17"))
    day.run("call-1987", *usual)
    damaged = day.store.get("call-1987/writeback.json").data
    day.store.put("call-1987/writeback.json", damaged.replace(b"applied", b"applies", 1))
    clock.advance(20)


def large_session(count):
    """One session of so many operations, of which the last was rejected."""
    day = Day()
    day.policy = RunPolicy(attempts=1, journal_interval=60, run_limit=86_400, lease=172_800)
    day.script[f"{count}-task"] = [PermanentError("PATCH tasks: 400")]
    day.run("large", *(("activity", "task") * (count // 2)))
    return day


def many_sessions(count):
    """So many sessions, completed, blocked and waiting in turn."""
    day = Day()
    day.policy = RunPolicy(attempts=1)
    for number in range(count):
        refused = (None, PermanentError("PATCH tasks: 400"), down(600.0))[number % 3]
        day.script["2-task"] = [refused] if refused else []
        day.run(f"call-{number:05}", "activity", "task", "task")
    return day


HOSTILE = (
    "</script><script>window.hit=1</script>",
    "<img src=x onerror=window.hit=2>",
    "<!--<script>",
    "]]></svg>",
    "\"' onmouseover='window.hit=3",
    "\u202egnp.exe\u2066",
    "nul\0and\x1b[31mred",
    "line\u2028separator\u2029",
    "{{ 7 * 7 }}{% raw %}",
    "javascript:window.hit=4",
)


def hostile_session():
    """A session whose texts would be markup, script or a template if they were taken for it."""
    day = Day()
    day.policy = RunPolicy(attempts=1)
    text = " ".join(HOSTILE)
    day.script["1-task"] = [PermanentError(text)]
    operation = {"kind": "task", "payload": {text: [text, "x" * 1_000_000], "__proto__": {"a": 1}}}
    with day.machine("</svg><img src=x onerror=window.hit=5>", 7):
        write_back([operation], session_id="hostile", **day._tools())
        unblock_session("hostile", store=day.store, reason=text, clock=day.clock)
    day.clock.advance(5)
    day.script["1-task"] = [PermanentError(text)]
    day.resume("hostile")
    return day
