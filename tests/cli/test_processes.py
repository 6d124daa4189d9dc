"""What only a process of its own shows: streams, signals, exit codes as a shell sees them."""

import json
import os
import pty
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.support.processes import child_environment
from writeahead.simulators.dataverse import SimulatorDatabase

ROOT = Path(__file__).parents[2]
SEED = ROOT / "examples/sessions/seed.json"
SCRIPT = Path(sysconfig.get_path("scripts")) / "writeahead"


@pytest.fixture
def start(folder):
    """Starts ``python -m writeahead`` in the folder; whatever still runs in the end is killed."""
    started = []

    def start(*arguments, **more):
        environment = {
            **child_environment(),
            "COLUMNS": "80",
            **more.pop("env", {}),
        }
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "writeahead", *map(str, arguments)],
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment} | more,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def finished(process):
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_the_script_and_the_module_are_one_command(start):
    script = subprocess.run([SCRIPT, "--version"], capture_output=True, text=True, check=True)
    assert finished(start("--version")) == (0, script.stdout, "")
    assert script.stdout.startswith("writeahead ")


def test_alone_it_says_what_it_can_do(start):
    code, out, err = finished(start())
    assert (code, err) == (0, "")
    for command in ("run", "resume", "list", "show", "unblock", "sweep", "check", "demo", "simulate"):
        assert f"\n  {command} " in out
    assert "..." not in out.partition("Commands:")[2]


def test_the_version_is_told_without_the_command_lines_libraries():
    code = (
        "import sys; from writeahead.cli import main; main(['--version'])\n"
        "print(sorted({'typer', 'rich', 'httpx', 's3fs', 'tenacity'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[1] == "[]"


def test_a_whole_session_over_process_boundaries(start, cli, remote):
    remote.answers = [201, 503, 503]
    with cli.session("row", "row").open() as file:
        code, out, err = finished(start("run", "-", "--write", "--json", stdin=file))
    assert (code, err, json.loads(out)["status"]) == (75, "", "resume_needed")
    code, out, err = finished(start("resume", "s1", "--json"))
    assert (code, err, json.loads(out)["status"]) == (0, "", "completed")
    assert sum(remote.effects.values()) == 2
    assert remote.requests == ["PUT /row"] * 4


def test_an_adapter_in_the_working_directory_can_be_named(start, cli, folder, remote):
    (folder / "here.py").write_text(
        "from tests.support.crm import CrmAdapter\n\ndef make(url):\n    return CrmAdapter(url)\n"
    )
    with (folder / "writeahead.toml").open("a") as settings:
        settings.write(f'[adapters."here:make"]\nurl = "{remote.url}"\n')
    # As a script, which does not look into the working directory by itself.
    done = subprocess.run(
        [SCRIPT, "run", cli.session("row"), "--write", "--adapter", "here:make"],
        env=child_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert remote.requests == ["PUT /row"]


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_a_reader_who_leaves_early_changes_nothing(start, cli, remote, as_json):
    remote.answers = [503, 503]
    reader, writer = os.pipe()
    os.close(reader)
    process = start("run", cli.session("row"), "--write", *as_json, stdout=writer)
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
    process = start("sweep", "--write", stdout=writer, env={"PYTHONUNBUFFERED": "1"})
    os.close(writer)
    assert finished(process) == (0, None, "")
    assert sum(remote.effects.values()) == 3


def test_output_that_cannot_be_written_is_told(start, cli, remote):
    with Path("/dev/full").open("w") as full:
        code, _, err = finished(start("run", cli.session("row"), "--write", stdout=full))
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
    os.close(theirs)
    shown = b""
    while True:
        try:
            shown += os.read(mine, 4096)
        except OSError:  # the other end is closed
            break
    os.close(mine)
    assert process.wait(60) == 0
    assert b"\x1b[31mblocked" in shown


def test_a_traceback_only_for_those_who_ask(start, cli, remote):
    remote.answers = [418]
    code, _, err = finished(start("run", cli.session("row"), "--write"))
    assert (code, "Traceback" in err) == (3, False)
    remote.answers = [418]
    code, _, err = finished(start("resume", "s1", env={"WRITEAHEAD_DEBUG": "1"}))
    assert (code, "Traceback" in err) == (3, True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_request_end_and_parks_the_session(start, cli, remote, number):
    remote.hold = True
    process = start("run", cli.session("row", "row"), "--write", "--json")
    assert remote.arrived.acquire(timeout=60)
    process.send_signal(number)
    assert process.stderr.readline().startswith("stopping after the request that is under way")
    remote.go_on.set()
    code, out, _ = finished(process)
    report = json.loads(out)
    assert (code, report["status"], report["emitted"]) == (75, "resume_needed", ["1-row"])
    newest = max((cli.store / "s1/journal").iterdir())
    assert json.loads(newest.read_bytes())["status"] == "resume_needed"
    assert len(remote.requests) == 1

    assert cli("resume", "s1").code == 0
    assert set(remote.effects.values()) == {1}
    assert len(remote.requests) == 2


def test_an_interrupt_that_the_parent_ignores_stays_ignored(start, cli, remote):
    """As for a job that a shell has put in the background, or that nohup protects."""
    remote.hold = True
    ignoring = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)}
    process = start("run", cli.session("row", "row"), "--write", **ignoring)
    assert remote.arrived.acquire(timeout=60)
    process.send_signal(signal.SIGINT)
    remote.go_on.set()
    code, _, err = finished(process)
    assert (code, err) == (0, "")


def test_a_signal_ends_the_wait_for_the_next_attempt(start, cli, remote):
    remote.answers = [503]
    waits = ["--wait-initial", 600, "--wait-max", 600, "--run-limit", 5000, "--lease", 5000]
    process = start("run", cli.session("row"), "--write", "--json", *waits)
    # The server has answered when the plan's first request is in its log; then the process waits.
    while not remote.requests:
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    code, out, _ = finished(process)
    assert (code, json.loads(out)["status"]) == (75, "resume_needed")


def test_a_signal_before_anything_was_sent(start, cli, remote, folder):
    (folder / "slow.py").write_text(
        "import sys\nfrom tests.support.crm import CrmAdapter\n\nclass Slow(CrmAdapter):\n"
        "    def plan(self, operations):\n        print('planning', file=sys.stderr, flush=True)\n"
        "        sys.stdin.readline()\n        return super().plan(operations)\n"
    )
    with (folder / "writeahead.toml").open("a") as settings:
        settings.write(f'[adapters."slow:Slow"]\nurl = "{remote.url}"\n')
    process = start(
        "run", cli.session("row"), "--write", "--adapter", "slow:Slow", "--json", stdin=subprocess.PIPE
    )
    assert process.stderr.readline() == "planning\n"
    process.send_signal(signal.SIGTERM)
    assert process.stderr.readline().startswith("stopping")
    code, out, _ = finished(process)
    assert (code, json.loads(out)["status"]) == (75, "resume_needed")
    assert remote.requests == []


def test_a_second_interrupt_exits_at_once_and_is_safe(start, cli, remote):
    remote.hold = True
    process = start("run", cli.session("row", "row"), "--write")
    assert remote.arrived.acquire(timeout=60)
    process.send_signal(signal.SIGINT)
    assert process.stderr.readline().startswith("stopping")
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    remote.hold = False
    remote.go_on.set()

    assert cli("resume", "s1", "--json").json["status"] == "in_progress"
    # The lease of the process that is gone counts from when it wrote last: let that be long ago.
    os.utime(cli.store / "s1/planned-writeback.json", (0, 0))
    assert cli("resume", "s1", "--json").json["status"] == "completed"
    assert set(remote.effects.values()) == {1}
    assert len(remote.effects) == 2


def test_a_sweep_stops_between_sessions(start, cli, remote):
    for session_id in ("a", "b"):
        remote.answers = [503, 503]
        cli("run", cli.session("row", session_id=session_id), "--write")
    remote.requests.clear()
    remote.hold = True
    process = start("sweep", "--write", "--json")
    assert remote.arrived.acquire(timeout=60)
    process.send_signal(signal.SIGTERM)
    assert process.stderr.readline().startswith("stopping")
    remote.go_on.set()
    code, out, _ = finished(process)
    assert code == 75
    assert [item["session_id"] for item in json.loads(out)["sessions"]] == ["a"]
    assert len(remote.requests) == 1


def test_the_simulator_runs_alone_until_it_is_told_to_end(start, folder):
    process = start("simulate", "dataverse", "--port", 0, "--db", folder / "crm.sqlite", "--json")
    lines = []
    while not lines or lines[-1] != "}\n":
        lines.append(process.stdout.readline())
    url = json.loads("".join(lines))["url"]
    assert url.startswith("http://127.0.0.1:")
    process.send_signal(signal.SIGTERM)
    assert finished(process) == (0, "", "")


def test_a_simulator_is_seeded_and_keeps_changes(start, folder):
    database = SimulatorDatabase(folder / "crm.sqlite")
    for turn in range(2):
        process = start("simulate", "dataverse", "--db", database.path, "--seed", SEED)
        assert process.stdout.readline().startswith("Dataverse simulator on http://127.0.0.1:")
        seeded = json.loads(SEED.read_text())
        assert {name: database.count(name) for name in seeded} == {
            name: len(rows) for name, rows in seeded.items()
        }
        contact = seeded["contacts"][0]["contactid"]
        if turn:
            assert database.row("contacts", contact)["lastname"] == "Changed"
        database.edit("contacts", contact, {"lastname": "Changed"})
        process.send_signal(signal.SIGTERM)
        assert finished(process)[0] == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "seed.json: line 1, column 2: not JSON"),
        ('{"accounts": {"name": "A"}}', 'seed.json: not rows: write {"accounts": [{"name": ...}]}'),
        ('{"accountz": [{}]}', "seed.json: accountz, row 1: the simulator has no table 'accountz'"),
        ('{"accounts": [{"name": "A"}, {"nme": "B"}]}', "seed.json: accounts, row 2:"),
        ('{"accounts": [{"accountid": "x"}]}', "seed.json: accounts, row 1: 'x' is no GUID"),
        (None, "seed.json: there is no such file"),
    ],
)
def test_an_unusable_seed_is_named_and_ends_the_simulator(start, folder, text, said):
    if text is not None:
        (folder / "seed.json").write_text(text)
    code, out, err = finished(
        start("simulate", "dataverse", "--db", folder / "crm.sqlite", "--seed", folder / "seed.json")
    )
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.splitlines()) == 1
