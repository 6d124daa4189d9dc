"""Streams that are closed, full, or left by their reader, as only a process of its own shows."""

import errno
import io
import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

import writeahead
from tests.support.processes import ROOT, child_environment, finished, read_terminal
from writeahead.cli import render
from writeahead.cli.streams import write_guarded


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_a_reader_who_leaves_early_changes_nothing(start, cli, remote, as_json):
    remote.answers = [503, 503]
    reader, writer = os.pipe()
    os.close(reader)
    process = start("run", cli.session("row"), "--write", "--quiet", *as_json, stdout=writer)
    os.close(writer)
    assert finished(process) == (75, None, "")


def test_a_long_list_into_head(start, cli, remote):
    """A pipe that closes in the middle: a list is longer than what a pipe holds."""
    for number in range(900):
        folder = cli.store / f"{number:04d}-{'x' * 60}"
        folder.mkdir(parents=True)
        (folder / "writeback.json").write_text("{}")
    process = start("list")
    assert process.stdout.readline().startswith("completed")
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(60) == 0


def test_a_sweep_goes_on_when_its_reader_leaves(start, cli, remote):
    for session_id in ("a", "b", "c"):
        remote.answers = [503, 503]
        cli("run", cli.session("row", session_id=session_id), "--write")
    reader, writer = os.pipe()
    os.close(reader)
    process = start("sweep", "--write", "--quiet", stdout=writer, env={"PYTHONUNBUFFERED": "1"})
    os.close(writer)
    assert finished(process) == (0, None, "")
    assert sum(remote.effects.values()) == 3


def test_output_that_cannot_be_written_is_a_failure(start, cli, remote):
    with Path("/dev/full").open("w") as full:
        code, _, err = finished(start("run", cli.session("row"), "--write", "--quiet", stdout=full))
    assert code == 3
    assert err == "error: the output can't be written: No space left on device\n"
    assert sum(remote.effects.values()) == 1


def test_no_streams_at_all(start, cli, remote):
    closed = subprocess.run(
        ["/bin/sh", "-c", f"exec {sys.executable} -m writeahead run {cli.session('row')} --write >&- 2>&-"],
        env=child_environment(),
        check=False,
    )
    assert closed.returncode == 0
    assert sum(remote.effects.values()) == 1


def test_colours_are_for_terminals_only(start, cli, remote):
    remote.answers = [400]
    plain = {"TERM": "xterm-256color"}
    code, out, _ = finished(start("run", cli.session("row"), "--write", env=plain))
    assert code == 1
    assert "\x1b" not in out

    mine, theirs = pty.openpty()
    process = start("show", "s1", env=plain, stdout=theirs, stdin=theirs)
    shown = read_terminal(mine, theirs)
    assert process.wait(60) == 0
    assert b"\x1b[31mblocked" in shown


def test_a_traceback_only_for_those_who_ask(start, cli, remote):
    remote.answers = [418]
    code, _, err = finished(start("run", cli.session("row"), "--write"))
    assert (code, "Traceback" in err) == (3, False)
    remote.answers = [418]
    code, _, err = finished(start("resume", "s1", env={"WRITEAHEAD_DEBUG": "1"}))
    assert (code, "Traceback" in err) == (3, True)


FULL = Path("/dev/full")
NO_SPACE = "error: the output can't be written: No space left on device\n"


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["list", "--help"], []], ids=" ".join)
def test_a_text_that_cannot_be_written_fails(start, arguments):
    with FULL.open("w") as full:
        assert finished(start(*arguments, stdout=full)) == (3, None, NO_SPACE)


@pytest.mark.parametrize("arguments", [["--version"], ["--help"]], ids=" ".join)
def test_a_text_whose_reader_left_is_no_failure(start, arguments):
    reader, writer = os.pipe()
    os.close(reader)
    process = start(*arguments, stdout=writer)
    os.close(writer)
    assert finished(process) == (0, None, "")


def test_an_error_that_is_not_about_the_output_is_not_taken_for_one():
    def write():
        raise BrokenPipeError(errno.EPIPE, "of another file")

    with pytest.raises(BrokenPipeError, match="of another file"):
        write_guarded(write, lambda: 0)


def without_metadata(*arguments):
    """Run the source tree without site-packages, so that there are no packages and no metadata."""
    code = f"import sys; sys.path.insert(0, {str(ROOT / 'src')!r})\nfrom writeahead.cli import main\n"
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"{code}sys.exit(main(sys.argv[1:]))", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_version_is_known_without_metadata():
    done = without_metadata("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"writeahead {writeahead.__version__}\n", "")


@pytest.fixture(params=["closed", "full", "no reader"])
def stderr(request):
    """A stderr that takes nothing, as arguments for a process."""
    if request.param == "closed":
        yield {"stderr": None, "preexec_fn": lambda: os.close(2)}
    elif request.param == "full":
        with FULL.open("w") as full:
            yield {"stderr": full}
    else:
        reader, writer = os.pipe()
        os.close(reader)
        yield {"stderr": writer}
        os.close(writer)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["zork"], 2),
        (["run", "gone.json"], 2),
        (["--attempts"], 2),
        (["list", "--missing-ok"], 0),
        (["--version"], 0),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_an_error_that_stderr_does_not_take_keeps_its_code(start, cli, stderr, arguments, code):
    assert finished(start(*arguments, **stderr))[0] == code


def test_json_stays_json_without_a_stderr(start, cli, stderr):
    code, out, _ = finished(start("run", "gone.json", "--json", **stderr))
    assert code == 2
    assert json.loads(out)["error"] == "gone.json: there is no such file"


def test_a_traceback_that_stderr_does_not_take_keeps_its_code(start, cli, remote, stderr):
    remote.answers = [418]
    process = start("run", cli.session("row"), "--write", env={"WRITEAHEAD_DEBUG": "1"}, **stderr)
    assert finished(process)[:2] == (3, "")


def test_no_file_takes_the_place_of_a_closed_stream(start, cli, remote, folder):
    cli.adapter(
        "keeping:Keeping",
        "from tests.support.crm import CrmAdapter\n\nclass Keeping(CrmAdapter):\n"
        "    def __init__(self, url):\n        self.kept = open('kept.txt', 'w')\n"
        "        super().__init__(url)\n"
        "    def close(self):\n        self.kept.close()\n        super().close()\n",
        remote.url,
    )
    remote.hold = True
    closed = {"stderr": None, "preexec_fn": lambda: os.close(2)}
    process = start("run", cli.session("row"), "--write", "--adapter", "keeping:Keeping", **closed)
    assert remote.arrived.acquire(timeout=60)
    process.send_signal(signal.SIGTERM)
    remote.go_on.set()
    # The last receipt of the session was under way when the signal came.
    assert finished(process)[0] == 0
    assert (folder / "kept.txt").read_bytes() == b""


@pytest.mark.parametrize(
    "text", ["plain", "two  words  ", "tab\tand \x1b[31m bell\a", "é \u202e ü", "x" * 300, ""]
)
def test_a_pipe_gets_what_a_terminal_without_colours_gets(text):
    def shown(*, terminal):
        console = Console(
            file=io.StringIO(),
            force_terminal=terminal,
            color_system=None,
            highlight=False,
            markup=False,
            emoji=False,
            soft_wrap=True,
        )
        render._line(console, ("word".ljust(9), "red"), text, (text, "dim"))
        return console.file.getvalue()

    assert shown(terminal=False) == shown(terminal=True)
