"""What a command says on stderr while it runs: a log, or one line on a terminal."""

import pty
import re
from datetime import UTC, datetime

import pytest

from tests.support.processes import read_terminal
from writeahead.cli.progress import _described
from writeahead.protocol.progress import Waiting, WaitReason

STAMP = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ"


def said(err):
    """The lines of a log without their times, which each of them has."""
    lines = err.splitlines()
    assert all(re.match(rf"{STAMP} s\d+: ", line) for line in lines), err
    return [re.sub(STAMP, "TIME", line.split("Z ", 1)[1]) for line in lines]


def test_a_log_has_a_line_for_each_step(cli, remote):
    remote.answers = [201, 503]
    done = cli("run", cli.session("row", "mail"), "--write", "--json")
    assert done.json["status"] == "completed"
    lines = said(done.err)
    assert lines[:4] == [
        "s1: 1/2 1-row: sending",
        "s1: 1/2 1-row: confirmed, applied",
        "s1: 2/2 2-mail: sending",
        "s1: 2/2 2-mail: failed: POST /mail: 503",
    ]
    assert re.fullmatch(r"s1: 2/2 2-mail: waiting 0\.0\d+ s, until TIME, before the next attempt", lines[4])
    assert lines[5:] == ["s1: 2/2 2-mail: sending, attempt 2", "s1: 2/2 2-mail: confirmed, applied"]


def test_an_unknown_outcome_is_called_that(cli, remote):
    remote.answers = [0]
    done = cli("run", cli.session("mail"), "--write")
    assert said(done.err)[-1].endswith("failed: POST /mail: RemoteProtocolError; it may have taken effect")
    assert re.search(
        rf"^  1-mail  attempted  may have been sent, {STAMP} at the latest$", done.out, re.MULTILINE
    )


@pytest.mark.parametrize("flag", ["--quiet", "-q"])
def test_quiet_says_nothing(cli, remote, flag):
    remote.answers = [503, 503]
    assert cli("run", cli.session("row"), "--write", flag).err == ""
    remote.answers = [503, 503]
    assert cli("resume", "s1", flag).err == ""
    assert cli("sweep", "--write", flag).err == ""


def test_a_resume_and_a_sweep_name_their_sessions(cli, remote):
    for session_id in ("s1", "s2"):
        remote.answers = [503, 503]
        cli("run", cli.session("row", session_id=session_id), "--write")
    assert said(cli("resume", "s1").err) == ["s1: 1/1 1-row: sending", "s1: 1/1 1-row: confirmed, applied"]
    assert said(cli("sweep", "--write", "--json").err)[0] == "s2: 1/1 1-row: sending"


def test_what_remotes_say_can_t_move_the_cursor(cli, remote):
    cli.adapter(
        "red:Red",
        "from tests.support.crm import CrmAdapter\nfrom writeahead.errors import TransientError\n\n"
        "class Red(CrmAdapter):\n    def plan(self, operations):\n"
        "        raise TransientError('\\x1b[2J gone')\n",
        remote.url,
    )
    done = cli("run", cli.session("row"), "--adapter", "red:Red")
    assert "planning: failed: " in done.err
    assert "\x1b" not in done.err


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.0123, "0.012 s"), (1.5, "1.5 s"), (30.4, "30 s"), (86_400.0, "86400 s")]
)
def test_a_wait_is_shown_in_digits_that_count(seconds, shown):
    at = datetime(2026, 1, 1, 12, tzinfo=UTC)
    event = Waiting(
        session_id="s1",
        at=at,
        total=3,
        operations=("2-row",),
        position=2,
        seconds=seconds,
        until=at,
        reason=WaitReason.RETRY_AFTER,
    )
    until = "2026-01-01 12:00:00Z"
    assert _described(event) == f"s1: 2/3 2-row: waiting {shown}, until {until}, as the remote asked"


# A terminal.


def on_a_terminal(start, *arguments, **env):
    """The exit code, stdout as text, and the bytes that a terminal got as stderr."""
    mine, theirs = pty.openpty()
    process = start(*arguments, stderr=theirs, env={"TERM": "xterm", **env})
    shown = read_terminal(mine, theirs)
    out = process.stdout.read()
    return process.wait(60), out, shown.decode()


def test_a_terminal_has_one_line_that_changes(start, cli, remote):
    remote.answers = [503, 503]
    file = cli.session("row")
    code, out, shown = on_a_terminal(start, "run", file, "--write", "--wait-initial", 0.3)
    assert code == 75
    assert out.splitlines()[0] == "s1  resume_needed"
    assert "\x1b" not in out
    assert "s1: 1/1 1-row: waiting" in shown
    # What failed stays: it is printed with a line's end.
    assert shown.count("s1: 1/1 1-row: failed: PUT /row: 503\r\n") == 2
    # The cursor is there all the time, since the process may be killed.
    assert shown.index("\x1b[?25h") - shown.index("\x1b[?25l") == len("\x1b[?25l")
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")


def test_the_lines_of_a_sweep_are_not_on_the_terminal_of_its_progress(start, cli, remote):
    for session_id in ("s1", "s2"):
        remote.answers = [503, 503]
        cli("run", cli.session("row", session_id=session_id), "--write")
    code, out, shown = on_a_terminal(start, "sweep", "--write")
    *each, totals = out.splitlines()
    assert sorted(line.split() for line in each) == [["completed", "s1"], ["completed", "s2"]]
    assert (code, totals) == (0, "2 sessions: 2 completed")
    assert "completed" not in shown
    assert "1 of 2 sessions, " in shown
    assert "/s, 0:00:0" in shown
    assert "s2: 1/1 1-row" in shown


def test_a_terminal_that_can_do_nothing_gets_a_log(start, cli, remote):
    code, _, shown = on_a_terminal(start, "run", cli.session("row"), "--write", TERM="dumb")
    assert code == 0
    assert "\x1b" not in shown
    assert len(shown.splitlines()) == 2


def test_colour_that_is_forced_makes_no_terminal_of_a_log(cli, remote, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b" not in cli("run", cli.session("row"), "--write").err
