"""show --follow and watch, beside runs in processes of their own."""

import json
import os
import pty
import re
import signal
import threading

import pytest

from tests.support.processes import finished, read_terminal
from writeahead import open_store
from writeahead.report.following import Watcher
from writeahead.testing import TracingStore

# Each starts processes, and others do most of it.
in_full = pytest.mark.skipif(
    os.environ.get("WRITEAHEAD_TESTS") != "full", reason="WRITEAHEAD_TESTS=full, as in `nox -s crash`"
)


@pytest.fixture
def let_go(remote):
    """Answers the request that is held; the next one is held, too."""
    remote.hold = True

    def let_go():
        held, remote.go_on = remote.go_on, threading.Event()
        held.set()

    return let_go


@pytest.fixture
def run(start, cli, remote, let_go):
    """Starts a run that journals each receipt, and waits until its first request is held."""

    def run(*kinds):
        flags = ("--write", "--quiet", "--journal-interval", "0")
        process = start("run", cli.session(*kinds), *flags)
        assert remote.arrived.acquire(timeout=60)
        return process

    return run


@pytest.fixture
def follow(start):
    """Starts to follow, and reads up to the end of what is there already."""
    process = start("show", "s1", "--follow", "--interval", "0.2s")
    while "next: another run is active" not in (line := process.stdout.readline()):
        assert line, process.stderr.read()
    return process


@pytest.fixture
def following(request, run):
    running = run("row", "row", "row")
    return running, request.getfixturevalue("follow")


def test_each_entry_is_told_while_the_next_request_is_held(following, cli, remote, let_go):
    running, process = following
    for number in (1, 2):
        let_go()
        assert remote.arrived.acquire(timeout=60)
        told = process.stdout.readline().split()
        assert (told[0], told[3:]) == (
            str(number),
            ["confirmed", f"{number}-row", "confirmed", f"{number}-row"],
        )
    let_go()
    code, out, err = finished(process)
    assert (code, err, finished(running)[0]) == (0, "", 0)
    entries = sorted(path.stem for path in (cli.store / "s1/journal").iterdir())
    # Each entry on the disk, and nothing twice.
    assert [int(name) for name in entries][2:] == [
        int(line.split()[0]) for line in out.splitlines() if line.split()[0].isdigit()
    ]
    assert "s1  completed" in out.splitlines()
    assert out.count("confirmed  applied") == 3


@in_full
def test_its_exit_code_is_that_of_the_end(following, remote, let_go):
    running, process = following
    remote.answers = [400]
    let_go()
    code, out, _ = finished(process)
    assert (code, finished(running)[0]) == (1, 1)
    assert "s1  blocked (rejected)" in out.splitlines()


@in_full
def test_a_run_that_is_killed_ends_it(following):
    running, process = following
    running.kill()
    code, out, _ = finished(process)
    assert code == 75
    assert out.splitlines()[-1].startswith("next: writeahead resume s1")


@in_full
def test_an_interrupt_ends_it_and_changes_nothing(following, cli):
    _, process = following
    before = cli.bytes_in_store()
    process.send_signal(signal.SIGINT)
    code, out, err = finished(process)
    assert (code, out, err.splitlines()[1:]) == (75, "", [])
    assert cli.bytes_in_store() == before


def test_what_is_over_is_shown_once(cli, remote):
    assert cli("run", cli.session("row"), "--write").code == 0
    once = cli("show", "s1")
    assert cli("show", "s1", "--follow") == once
    assert cli("show", "s1", "--follow", "--json").code == 2
    assert cli("show", "gone", "--follow").code == 3


def test_watch_tells_each_change_of_another_process(start, cli, remote, run, let_go):
    running = run("row", "row")
    process = start("watch", "--json-lines", "--interval", "0.2s")

    def told():
        line = json.loads(process.stdout.readline())
        return line["status"], line["confirmed"], line["open"]

    assert told() == ("in_progress", 0, True)
    let_go()
    assert told() == ("in_progress", 1, True)
    assert remote.arrived.acquire(timeout=60)
    let_go()
    while (line := told()) != ("completed", 2, False):
        assert line[0] in ("in_progress", "completed"), line
    assert finished(running)[0] == 0
    process.send_signal(signal.SIGTERM)
    assert finished(process)[:2] == (0, "")


@in_full
def test_watch_has_lines_for_a_log(start, cli, remote):
    remote.answers = [400]
    assert cli("run", cli.session("row"), "--write").code == 1
    process = start("watch", "--interval", "0.2s")
    line = process.stdout.readline().split()
    assert line[2:6] == ["blocked", "0/1", "s1", "rejected:"]
    process.send_signal(signal.SIGINT)
    assert finished(process)[:2] == (0, "")
    assert cli("watch", "--json").code == 2


@in_full
def test_watch_is_a_table_on_a_terminal(start, cli, remote):
    for name, answers in (("parked", [503, 503]), ("refused", [400])):
        remote.answers = list(answers)
        cli("run", cli.session("row", session_id=name), "--write")
    mine, theirs = pty.openpty()
    process = start("watch", stdout=theirs, stdin=theirs, env={"TERM": "xterm-256color", "LINES": "30"})
    shown = ""
    while "2 open" not in shown:
        shown += os.read(mine, 4096).decode()
    # What needs an operator comes first.
    assert shown.index("refused") < shown.index("parked")
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    assert read_terminal(mine, theirs).decode().rstrip().endswith("\x1b[?25h")


def test_show_is_a_tree_on_a_terminal_and_as_ever_elsewhere(cli, remote, monkeypatch):
    remote.answers = [201, 400]
    cli("run", cli.session("row", "row"), "--write")
    plain = cli("show", "s1").out
    monkeypatch.setenv("FORCE_COLOR", "1")
    shown = re.sub("\x1b\\[[0-9;]*m", "", cli("show", "s1").out).splitlines()
    place = shown.index("operations")
    assert [line[:9] for line in shown[place + 1 : place + 3]] == ["├── 1-row", "└── 2-row"]
    # But for the lines of the tree, nothing else.
    bare = [re.sub("^(├──|└──) ", "  ", line).rstrip() for line in shown]
    assert bare == plain.splitlines()


def test_a_look_at_what_did_not_change_reads_nothing(cli, remote):
    for name, answers in (("parked", [503, 503]), ("refused", [400])):
        remote.answers = list(answers)
        cli("run", cli.session("row", session_id=name), "--write")
    store = TracingStore(open_store(str(cli.store)))
    watcher = Watcher(store)
    assert [one.session_id for one in watcher.look()] == ["parked", "refused"]
    store.calls.clear()
    assert list(watcher.look()) == []
    # The blocked one has no open marker, so nothing can have been added to it.
    assert [(call.verb, call.key) for call in store.calls] == [
        ("list", ".open/"),
        ("list", ".blocked/"),
        ("head", "parked/journal/000002.json"),
    ]
    assert cli("resume", "parked").code == 0
    assert [(one.session_id, one.status) for one in watcher.look()] == [("parked", "completed")]
    assert list(watcher.open) == ["refused"]
