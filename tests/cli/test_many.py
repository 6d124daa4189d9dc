"""Many sessions at once: which are meant, the preview, and one bad one among them."""

import io
import json
import signal

import pytest

from tests.support.processes import finished
from writeahead.cli import many
from writeahead.errors import Unavailable

REASON = ["--reason", "the column was widened"]


def blocked(cli, remote, *ids, answer=400, kind="row"):
    for session_id in ids:
        remote.answers = [answer]
        assert cli("run", cli.session(kind, session_id=session_id), "--write", "-q").code == 1
    remote.requests.clear()


def parked(cli, remote, *ids):
    for session_id in ids:
        remote.answers = [503, 503]
        assert cli("run", cli.session("row", session_id=session_id), "--write", "-q").code == 75
    remote.requests.clear()


def states(cli):
    return {found["session_id"]: found["status"] for found in cli("list", "--json").json["sessions"]}


def named(done):
    return [found["session_id"] for found in done.json["sessions"]]


def test_of_many_a_preview_is_shown_and_nothing_is_written(cli, remote):
    blocked(cli, remote, "a", "b")
    parked(cli, remote, "c")
    before = cli.bytes_in_store()
    done = cli("unblock", "a", "b", *REASON)
    assert done.code == 0
    assert [line.split(None, 1) for line in done.out.splitlines()[:2]] == [
        ["-", "a  unblock it: rejected: PUT /row: 400"],
        ["-", "b  unblock it: rejected: PUT /row: 400"],
    ]
    assert done.out.splitlines()[2:] == [
        "2 sessions: 2 to do",
        "Nothing was done. Add --write to do it.",
    ]
    assert cli("abandon", "a", "c", *REASON).code == 0
    assert cli("resume", "c", "c", "--all").code == 2
    assert cli("resume", "a", "c").code == 0
    assert (cli.bytes_in_store(), remote.requests) == (before, [])


def test_with_write_it_is_done_to_each_and_counted(cli, remote):
    blocked(cli, remote, "a", "b", "c")
    done = cli("unblock", "b", "a", "b", *REASON, "--write", "--json")
    assert (done.code, done.json["totals"], done.json["written"]) == (0, {"resume_needed": 2}, True)
    # In the order in which they were named, and each once.
    assert named(done) == ["b", "a"]
    assert states(cli) == {"a": "resume_needed", "b": "resume_needed", "c": "blocked"}
    done = cli("resume", "a", "b", "--write", "--json", "-q")
    assert (done.code, done.json["totals"]) == (0, {"completed": 2})
    assert remote.requests == ["PUT /row"] * 2
    done = cli("abandon", "c", "a", "--write", *REASON)
    assert "2 sessions: 1 abandoned, 1 error" in done.out
    assert states(cli) == {"a": "completed", "b": "completed", "c": "abandoned"}


def test_one_session_that_is_named_needs_no_preview(cli, remote):
    blocked(cli, remote, "a")
    assert cli("unblock", "a", *REASON, "--json").json["status"] == "resume_needed"
    assert cli("resume", "a", "--json", "-q").json["status"] == "completed"


def test_a_bad_one_does_not_stop_the_others(cli, remote):
    blocked(cli, remote, "a", "b")
    (cli.store / "a" / "planned-writeback.json").write_bytes(b"{")
    for write in ([], ["--write"]):
        done = cli("unblock", "a", "gone", "b", *REASON, "--json", *write)
        assert done.code == 3
        errors = [found["error"] for found in done.json["sessions"]]
        assert errors[0].startswith("a/planned-writeback.json: truncated")
        assert errors[1].startswith("session gone: neither")
        assert errors[2] is None
    assert cli("resume", "b", "--json", "-q").json["status"] == "completed"


@pytest.mark.parametrize(
    ("answers", "code"), [([503, 503, 400], 1), ([503, 503], 75), ([418, 503, 503], 3), ([], 0)]
)
def test_the_exit_code_is_the_worst(cli, remote, answers, code):
    parked(cli, remote, "a", "b")
    remote.answers = answers
    assert cli("resume", "a", "b", "--write", "-q").code == code


# Which ones.


def test_all_means_those_that_it_can_be_done_to(cli, remote):
    blocked(cli, remote, "rejected")
    blocked(cli, remote, "unknown", answer=0, kind="mail")
    parked(cli, remote, "parked")
    cli("run", cli.session("row", session_id="done"), "--write", "-q")
    assert named(cli("unblock", "--all", *REASON, "--json")) == ["rejected", "unknown"]
    assert named(cli("resume", "--all", "--json")) == ["parked"]
    assert named(cli("abandon", "--all", *REASON, "--json")) == ["parked", "rejected", "unknown"]


@pytest.mark.parametrize(
    ("where", "meant"),
    [
        (["reason=rejected"], ["rejected"]),
        (["reason=outcome_unknown"], ["unknown"]),
        (["status=resume_needed"], ["parked"]),
        (["adapter=crm", "status=blocked"], ["rejected", "unknown"]),
        (["adapter=other"], []),
    ],
)
def test_where_chooses_among_all(cli, remote, where, meant):
    blocked(cli, remote, "rejected")
    blocked(cli, remote, "unknown", answer=0, kind="mail")
    parked(cli, remote, "parked")
    flags = [word for condition in where for word in ("--where", condition)]
    done = cli("abandon", "--all", *flags, *REASON, "--write", "--json")
    assert (done.code, named(done)) == (0, meant)
    assert [name for name, state in states(cli).items() if state == "abandoned"] == meant


def test_where_all_is_nothing_it_says_so(cli, remote):
    cli.store.mkdir()
    done = cli("unblock", "--all", *REASON)
    assert (done.code, done.out) == (0, f"no such sessions in {cli.store.as_uri()}\n")


def test_an_unreadable_session_is_named_and_never_done(cli, remote):
    blocked(cli, remote, "a", "b")
    (cli.store / "a" / "planned-writeback.json").write_bytes(b"{")
    done = cli("unblock", "--all", "--where", "reason=rejected", *REASON, "--write", "--json")
    assert (done.code, named(done)) == (3, ["a", "b"])
    assert done.json["totals"] == {"error": 1, "resume_needed": 1}


def test_one_that_reads_well_the_next_time_is_not_done_unseen(cli, remote, monkeypatch):
    parked(cli, remote, "a")
    blocked(cli, remote, "b")
    honest = many.read_stored

    def down_at_first(store, session_id):
        if session_id == "a":
            raise Unavailable(store.name, "list", "a/", "come back later")
        return honest(store, session_id)

    monkeypatch.setattr(many, "read_stored", down_at_first)
    done = cli("abandon", "--all", "--where", "reason=rejected", *REASON, "--write", "--json")
    assert (done.code, named(done)) == (3, ["a", "b"])
    assert states(cli) == {"a": "resume_needed", "b": "abandoned"}


def test_ids_come_from_a_file_or_stdin(cli, remote, monkeypatch):
    blocked(cli, remote, "a", "b", "c")
    file = cli.file("# of monday\n\n a \nb\na\n", "ids.txt")
    assert named(cli("unblock", "--from", file, *REASON, "--json")) == ["a", "b"]
    monkeypatch.setattr("sys.stdin", type("Stdin", (), {"buffer": io.BytesIO(b"c\n")}))
    # A list of one is a list: it is shown first.
    done = cli("unblock", "--from", "-", *REASON, "--json")
    assert (named(done), done.json["written"]) == (["c"], False)
    assert states(cli)["c"] == "blocked"


def test_a_list_of_blocked_sessions_can_be_piped_into_it(cli, remote):
    blocked(cli, remote, "a", "b")
    listed = [found["session_id"] for found in cli("list", "--state", "blocked", "--json").json["sessions"]]
    file = cli.file("\n".join(listed), "ids.txt")
    assert cli("unblock", "--from", file, *REASON, "--write").code == 0
    assert set(states(cli).values()) == {"resume_needed"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "name sessions, or read them --from FILE, or take --all"),
        (["a", "--all"], "one of the three"),
        (["a", "--from", "ids.txt"], "one of the three"),
        (["a", "--where", "reason=rejected"], "add --all"),
        (["--all", "--where", "reason"], "write KEY=VALUE, with a key of reason, status, adapter"),
        (["--all", "--where", "colour=red"], "with a key of reason, status, adapter"),
        (["--all", "--where", "reason=rejcted"], "there is no 'rejcted', only: not_ready, "),
        (["--from", "gone.txt"], "gone.txt: there is no such file"),
        (["--from", "empty.txt"], "empty.txt: it names no session"),
        (["--from", "ids.txt"], "ids.txt: line 2: session id '../x'"),
        (["a", "b", "--remote-id", "1-row=7", "--assume", "applied", "1-row"], "belongs to one session"),
    ],
)
def test_a_selection_that_makes_no_sense_is_refused(cli, remote, arguments, said):
    cli.file("a\n../x\n", "ids.txt")
    cli.file("\n# none\n", "empty.txt")
    done = cli("unblock", *arguments, *REASON, "--write")
    assert (done.code, done.out) == (2, "")
    assert said in done.err


# What is decided.


def test_an_assumption_holds_for_each_and_is_tried_first(cli, remote):
    blocked(cli, remote, "a", "b", answer=0, kind="mail")
    before = cli.bytes_in_store()
    done = cli("unblock", "a", "b", *REASON, "--json")
    assert done.code == 2
    assert all("--assume applied 1-mail" in found["error"] for found in done.json["sessions"])
    assume = ["--assume", "not-applied", "1-mail"]
    assert cli("unblock", "a", "b", *REASON, *assume).code == 0
    assert cli.bytes_in_store() == before
    assert cli("unblock", "a", "b", *REASON, *assume, "--write").code == 0
    assert set(states(cli).values()) == {"resume_needed"}


def test_a_resume_of_many_may_take_over_and_hurry(cli, remote):
    parked(cli, remote, "a", "b")
    done = cli("resume", "--all", "--now", "the remote is back", "--write", "--json", "-q")
    assert done.json["totals"] == {"completed": 2}
    entries = [json.loads(data) for name, data in cli.bytes_in_store().items() if "journal/" in name]
    assert {entry["reason"] for entry in entries if entry["event"] == "claimed"} == {"the remote is back"}


def test_an_interrupt_stops_between_sessions(start, cli, remote):
    parked(cli, remote, "a", "b")
    remote.hold = True
    process = start("resume", "a", "b", "--write", "-q")
    assert remote.arrived.acquire(timeout=60)
    process.send_signal(signal.SIGINT)
    assert process.stderr.readline().startswith("stopping")
    remote.go_on.set()
    code, out, _ = finished(process)
    assert code == 75
    assert out.splitlines()[1:] == [
        "1 session: 1 completed",
        "Stopped before the rest. Run it again to go on.",
    ]
    assert len(remote.requests) == 1
    assert states(cli) == {"a": "completed", "b": "resume_needed"}
