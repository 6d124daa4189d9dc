"""sweep: several at once, bounded, again and again; what it says, and its exit code."""

import json
import signal
import threading
from contextlib import nullcontext

import pytest

from tests.support.processes import finished
from writeahead.cli.progress import RunsShown, headline
from writeahead.cli.rounds import Rounds, Tools
from writeahead.errors import Unavailable
from writeahead.protocol.sweep import SweepResult


@pytest.fixture
def parked(cli, remote):
    """Makes sessions that need a resume."""

    def park(*names):
        for name in names:
            remote.answers = [503, 503]
            assert cli("run", cli.session("row", session_id=name), "--write").code == 75
        remote.requests.clear()

    return park


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("flags", [[], ["--concurrency", 4]])
def test_all_are_resumed_and_counted(cli, remote, parked, flags):
    parked(*"abcdef")
    done = cli("sweep", "--write", *flags)
    *each, totals = done.out.splitlines()
    assert sorted(line.split() for line in each) == [["completed", name] for name in "abcdef"]
    assert (done.code, totals) == (0, "6 sessions: 6 completed")
    assert len(remote.requests) == 6
    assert set(remote.effects.values()) == {1}
    assert cli("sweep", "--write", *flags).out.startswith("no open sessions in ")


def test_a_limit_says_what_is_left_and_that_it_must_be_run_again(cli, remote, parked):
    parked(*"abcde")
    done = cli("sweep", "--write", "--limit", 2)
    assert (done.code, done.out.splitlines()[-1]) == (75, "5 sessions: 2 completed, 3 left (limit 3)")
    assert len(done.out.splitlines()) == 3
    done = cli("sweep", "--write", "--limit", 2, "--json")
    assert (done.json["totals"], done.json["reasons"]) == (
        {"completed": 2, "left": 1},
        {"left": {"limit": 1}},
    )
    assert [one["session_id"] for one in done.json["sessions"] if one["left"]]
    assert cli("sweep", "--write", "--limit", 2).code == 0


def test_totals_name_the_reasons(cli, remote, parked):
    parked("a", "b")
    remote.answers = [400]
    assert cli("run", cli.session("row", session_id="stuck"), "--write").code == 1
    remote.answers = [400]
    done = cli("sweep", "--write")
    assert done.code == 1
    assert "2 blocked (rejected 2)" in done.out.splitlines()[-1]


def test_lines_of_json_come_with_each_session_and_the_totals(cli, remote, parked):
    parked("a", "b")
    assert [one["step"].split(":")[0] for one in lines(cli("sweep", "--json-lines").out)] == ["resume it"] * 2
    assert remote.requests == []
    *each, totals = lines(cli("sweep", "--write", "--json-lines").out)
    assert sorted((one["type"], one["session_id"], one["report"]["status"]) for one in each) == [
        ("session", "a", "completed"),
        ("session", "b", "completed"),
    ]
    assert [one["status"] for one in each] == ["completed"] * 2
    assert (totals["type"], totals["round"], totals["totals"]) == ("totals", 1, {"completed": 2})


def test_until_done_comes_back_until_all_is_done(cli, remote, parked):
    parked("a")
    remote.answers = [503, 503]
    done = cli("sweep", "--write", "--until-done", "--json-lines", "--wait-max", 0.01)
    *each, totals = lines(done.out)
    assert [(one["report"]["status"], one["again"]) for one in each] == [
        ("resume_needed", True),
        ("completed", False),
    ]
    # What was come back to counts once.
    assert (done.code, totals["totals"]) == (0, {"completed": 1})


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_every_goes_on_until_a_signal(start, cli, remote, parked, number):
    parked("a", "b")
    marker, aside = cli.store / ".open/b", cli.store / ".open/.b"
    marker.rename(aside)
    process = start("sweep", "--write", "--quiet", "--json-lines", "--every", "0.05s")
    seen = []
    while seen[-3:] != ["totals"] * 3:
        line = json.loads(process.stdout.readline())
        seen.append(line.get("session_id", line["type"]))
        if seen == ["a", "totals", "totals"]:
            aside.rename(marker)  # what comes later is found by a later round
            seen.pop()
    process.send_signal(number)
    code, _, _ = finished(process)
    assert code == 0
    assert [one for one in seen if one != "totals"] == ["a", "b"]
    assert set(remote.effects.values()) == {1}


def test_a_signal_ends_every_after_the_requests_under_way(start, cli, remote, parked):
    parked(*"abcdefgh")
    remote.hold = True
    process = start("sweep", "--write", "--quiet", "--json-lines", "--every", "1h", "--concurrency", "3")
    for _ in range(3):
        assert remote.arrived.acquire(timeout=60)
    process.send_signal(signal.SIGTERM)
    assert process.stderr.readline().startswith("stopping")
    remote.go_on.set()
    code, out, _ = finished(process)
    *each, totals = lines(out)
    assert (code, totals["stopped"], len(remote.requests)) == (75, True, 3)
    assert [one["report"]["status"] for one in each] == ["completed"] * 3
    remote.hold = False
    assert cli("sweep", "--write", "--concurrency", 3).code == 0
    assert set(remote.effects.values()) == {1}
    assert len(remote.effects) == 8


def test_a_signal_ends_the_wait_for_one_that_is_not_due(start, cli, remote, parked):
    parked("held")
    (cli.store / "held/journal/000001.json").unlink()  # as if this process were still at it
    process = start("sweep", "--write", "--quiet", "--json-lines", "--until-done")
    line = json.loads(process.stdout.readline())
    assert (line["report"]["status"], line["again"]) == ("in_progress", True)
    process.send_signal(signal.SIGTERM)
    code, out, _ = finished(process)
    assert (code, lines(out)[-1]["stopped"], remote.requests) == (75, True, [])


def test_a_second_interrupt_of_a_concurrent_sweep_is_safe(start, cli, remote, parked):
    parked(*"abcd")
    remote.hold = True
    process = start("sweep", "--write", "--quiet", "--concurrency", "3")
    for _ in range(3):
        assert remote.arrived.acquire(timeout=60)
    process.send_signal(signal.SIGINT)
    assert process.stderr.readline().startswith("stopping")
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    remote.hold = False
    remote.go_on.set()
    assert cli("sweep", "--write").code == 0
    assert set(remote.effects.values()) == {1}
    assert len(remote.effects) == 4


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--write", "--concurrency", 0], "concurrency: give a whole number of 1 or more"),
        (["--write", "--limit", 0], "limit: give a whole number of 1 or more"),
        (["--write", "--max-time", "soon"], "--max-time soon: write a length of time above 0"),
        (["--write", "--max-time", "0s"], "--max-time 0s: write a length of time above 0"),
        (["--every", "60s"], "add --write"),
        (["--write", "--every", "60s", "--until-done"], "leave out --until-done"),
        (["--write", "--every", "60s", "--json"], "write --json-lines in place of --json"),
        (["--write", "--scheduler", "tcp://x:1"], "add --engine dask"),
        (["--write", "--engine", "ray"], "--engine"),
        (["--write", "--engine", "dask", "--own", "m:f"], "sweep such sessions without --engine"),
        (
            ["--write", "--engine", "dask", "--store", "memory://x"],
            "--store: store memory://...: no other process can reach it",
        ),
    ],
)
def test_flags_that_make_no_sense_are_refused(cli, parked, remote, flags, says):
    parked("a")
    done = cli("sweep", *flags)
    assert done.code == 2
    assert says in done.err
    assert remote.requests == []


@pytest.mark.parametrize("every", [0.001, None])
def test_every_outlasts_a_store_that_fails(capsys, every):
    stop, sweeps = threading.Event(), []

    def sweep():
        sweeps.append(1)
        if len(sweeps) == 1:
            raise Unavailable("s3://bucket", "list", ".open/", "503")
        yield SweepResult("a", note="finished")
        stop.set()
        return True

    rounds = Rounds("s3://bucket", lambda: nullcontext(Tools(sweep, stop, RunsShown(None))), every)
    if every is None:
        with pytest.raises(Unavailable):
            rounds.show_lines(None)
        return
    rounds.show_lines(None)
    out, err = capsys.readouterr()
    assert [line.get("session_id", line["type"]) for line in lines(out)] == ["totals", "a", "totals"]
    assert "503" in err
    assert rounds.exit_code() == 0


def test_a_headline_has_rate_and_remaining_time():
    assert headline(0, 100, 5.0) == ""
    assert headline(20, 100, 5.0) == "20 of 100 sessions, 4/s, 0:00:20 left; "
    assert headline(20, 0, 5.0) == "20 sessions, 4/s; "
    assert headline(1, 36001, 1.0) == "1 of 36001 sessions, 1/s, 10:00:00 left; "
