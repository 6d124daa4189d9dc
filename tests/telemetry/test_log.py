"""What a program's logs get: one line an event, at which level, and never a secret."""

import json
import logging
import subprocess
import sys

import pytest
import tenacity.nap

from tests.support import leaky
from tests.support.processes import child_environment
from tests.support.remotes import Meets
from tests.support.worlds import World, held_by_another, take_over
from writeahead import RunPolicy, resume_session, sweep
from writeahead.errors import InvalidInput, Unavailable, WriteaheadError
from writeahead.model import RunStatus
from writeahead.stores.base import ObjectInfo
from writeahead.stores.local import LocalStore
from writeahead.stores.memory import MemoryStore
from writeahead.stores.remote import RemoteStore, RequestFailed
from writeahead.testing import ManualClock, TracingStore, WrapperStore

OURS = ("writeahead.run", "writeahead.sweep", "writeahead.store")


@pytest.fixture
def lines(caplog):
    """The lines of our loggers so far, as (level, logger's last name, line)."""
    caplog.set_level(logging.DEBUG)

    def read(*names):
        wanted = [f"writeahead.{name}" for name in names] or OURS
        return [
            (record.levelname, record.name.rpartition(".")[2], record.getMessage())
            for record in caplog.records
            if record.name in wanted
        ]

    return read


def events(lines, *names):
    return [
        (level, dict(part.split("=", 1) for part in line.split(" "))["event"])
        for level, _, line in lines(*names)
    ]


def test_a_run_is_told_step_by_step(lines, caplog):
    world = World(RunPolicy(wait_initial=2))
    world.remote.script["1-create"] = [Meets.UNAVAILABLE]
    world.run("create")
    owner = world.json("s1/planned-writeback.json")["owner"]
    operation = f"session_id=s1 operation=1-create owner={owner}"
    assert lines("run") == [
        ("INFO", "run", "event=begun call=run session_id=s1 adapter=remote"),
        ("DEBUG", "run", "event=planning session_id=s1"),
        ("DEBUG", "run", f"event=planned session_id=s1 owner={owner} operations=1"),
        ("DEBUG", "run", f"event=sending {operation} attempt=1"),
        ("DEBUG", "run", f"event=failed {operation} attempt=1 error=TransientError applied=no"),
        ("DEBUG", "run", f"event=waiting {operation} wait=2.0 reason=backoff"),
        ("DEBUG", "run", f"event=sending {operation} attempt=2"),
        ("DEBUG", "run", f"event=confirmed {operation} attempt=2 outcome=applied"),
        ("DEBUG", "run", f"event=finished session_id=s1 owner={owner}"),
        ("INFO", "run", "event=ended session_id=s1 status=completed sent=1 confirmed=1 operations=1"),
    ]
    # A formatter that writes JSON has each field by its name.
    failed, waiting = (one for one in caplog.records if getattr(one, "event", "") in ("failed", "waiting"))
    assert (failed.session_id, failed.operation, failed.attempt) == ("s1", "1-create", 1)
    assert (failed.owner, waiting.wait) == (owner, 2)
    assert failed.filename == "progress.py"


@pytest.mark.parametrize(
    ("meets", "line"),
    [
        (Meets.REJECTED, "status=blocked reason=rejected operation=1-create error=PermanentError"),
        (Meets.RETRY_AFTER, "status=resume_needed operation=1-create error=TransientError not_before="),
        (Meets.INTERRUPT, "status=resume_needed operation=1-create"),
    ],
)
def test_what_needs_a_look_is_a_warning(lines, meets, line):
    world = World()
    world.remote.script["1-create"] = [meets]
    try:
        world.run("create")
    except KeyboardInterrupt:
        assert meets is Meets.INTERRUPT
    [(level, _, last)] = [one for one in lines("run") if "event=ended" in one[2]]
    assert (level, last.startswith(f"event=ended session_id=s1 {line}")) == ("WARNING", True)


def test_a_takeover_is_told_by_both_owners(lines):
    world = World()
    held_by_another(world)
    world.clock.advance(1000)
    world.resume()
    assert ("INFO", "claimed") in events(lines, "run")
    other = World()
    other.remote.script["1-create"] = [Meets.UNAVAILABLE] * 9
    sleep = other.clock.sleep

    def taken_over_meanwhile(seconds):
        take_over(other)
        other.clock.sleep = sleep

    other.clock.sleep = taken_over_meanwhile
    other.run("create")
    assert ("WARNING", "fenced") in events(lines, "run")


def test_a_sweep_is_told(lines):
    world = World()
    world.remote.script["1-create"] = [Meets.UNAVAILABLE] * 4
    world.run("create")
    world.store.put(".open/broken", b"")
    world.store.put("broken/planned-writeback.json", b"no artifact")
    lines_before = len(lines("sweep"))
    list(sweep(world.store, world.adapter, policy=world.policy, clock=world.clock))
    assert sorted(events(lines, "sweep")[lines_before:]) == [
        ("DEBUG", "settled"),
        ("DEBUG", "settled"),
        ("INFO", "begun"),
        ("INFO", "ended"),
        ("WARNING", "failed"),
    ]


def test_a_session_that_has_to_wait_is_no_warning_each_time(lines):
    world = World()
    world.remote.script["1-create"] = [Meets.RETRY_AFTER]
    world.run("create")
    world.clock = ManualClock()  # as in another process, which the remote has told nothing
    before = len(lines())
    for _ in range(3):
        list(sweep(world.store, world.adapter, policy=world.policy, clock=world.clock))
    assert [one for one in lines()[before:] if one[0] == "WARNING"] == []
    assert events(lines, "run")[-3:] == [("DEBUG", "looked")] * 3


def test_a_call_of_a_store_is_one_line_whatever_is_around_the_store(lines):
    store = TracingStore(WrapperStore(MemoryStore()))
    store.put("a/b", b"secret", if_absent=True)
    store.get("a/b")
    with pytest.raises(WriteaheadError):
        store.get("a/c")
    assert [info.key for info in store.list("a/")] == ["a/b"]
    assert store.exists()
    store.delete("a/b")
    # Without the time that each took.
    assert [line.partition(" seconds=")[0] for *_, line in lines("store")] == [
        "event=called store=memory:// verb=create key=a/b",
        "event=called store=memory:// verb=get key=a/b",
        "event=called store=memory:// verb=get key=a/c",
        "event=called store=memory:// verb=list key=a/ objects=1",
        'event=called store=memory:// verb=list key="" objects=1',
        "event=called store=memory:// verb=delete key=a/b",
    ]
    assert [line.partition(" error=")[2] for *_, line in lines("store")][2] == "NotFound"


class Busy(RemoteStore):
    """Refuses the first two requests of each verb."""

    name = "busy://"

    def __init__(self):
        self.requests = 0

    def _head(self, key):
        def attempt():
            self.requests += 1
            if self.requests < 3:
                raise RequestFailed(Unavailable, "it is busy", status=503, retry=True)
            return ObjectInfo(key, 0)

        return self._retried("head", key, attempt)

    _put = _list = _delete = _read = None


def test_a_store_that_tries_again_says_so(lines, monkeypatch):
    monkeypatch.setattr(tenacity.nap.time, "sleep", lambda _: None)
    Busy().head("a")
    said = [line for *_, line in lines("store") if "event=retried" in line]
    assert [line.split(" wait=")[0] for line in said] == [
        f"event=retried store=busy:// verb=head key=a attempt={n}" for n in (1, 2)
    ]
    assert all(line.endswith("http_status=503 error=Unavailable") for line in said)


def test_what_a_caller_gives_can_forge_no_line(lines, caplog):
    world = World()
    with pytest.raises(InvalidInput):
        resume_session("x\nevent=ended\x1b[2J\u2028y", store=world.store, adapter=world.adapter)
    [(_, _, line)] = lines("run")
    assert line.isprintable()
    assert caplog.records[-1].session_id == r"x\nevent=ended\x1b[2J\u2028y"
    assert (
        json.loads(line.split("session_id=")[1].rpartition(" adapter=")[0]) == caplog.records[-1].session_id
    )


class Broken(logging.Handler):
    def emit(self, record):
        raise OSError("the disk of the logs is full")


def test_a_handler_that_raises_harms_no_run():
    world, root = World(), logging.getLogger("writeahead")
    handler, level = Broken(), root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        assert world.run("create", "mail").status is RunStatus.COMPLETED
        assert world.effects_of("2-mail") == 1
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


def test_a_program_that_configures_nothing_sees_nothing(tmp_path):
    program = """
from tests.support.remotes import Meets
from tests.support.worlds import World
world = World()
world.remote.script["1-create"] = [Meets.REJECTED]
print(world.run("create").status)
import sys
print([name for name in sys.modules if name.startswith(("opentelemetry", "logging.handlers"))])
"""
    env = child_environment()
    done = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True
    )
    assert (done.stdout.split("\n")[:2], done.stderr) == (["blocked", "[]"], "")


def test_no_logger_holds_a_secret_at_any_level(tmp_path, caplog):
    caplog.set_level(1)
    store = LocalStore(tmp_path)
    _, adapter = leaky.leak(store)
    list(sweep(store, adapter))
    assert {record.name for record in caplog.records} >= set(OURS)
    said = [str(vars(record)) + record.getMessage() for record in caplog.records]
    assert [line for line in said if "planted-" in line] == []
