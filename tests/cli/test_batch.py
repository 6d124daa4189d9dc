"""run --batch: what a line may be, what is said of each, and the exit code."""

import json
import os
import signal
import subprocess
from collections import Counter

import pytest

from tests.support.processes import finished
from writeahead.cli import batch_file

# What a text may hold that some would take for the end of a line.
NO_ENDS = "a\u2028b\x85c\x1ed\x0ce"


def line(session_id, *kinds, text="x", **more):
    operations = [{"kind": kind, "payload": {"text": text}} for kind in kinds or ("row",)]
    return json.dumps({"session_id": session_id, "operations": operations, **more}, ensure_ascii=False)


@pytest.fixture
def batch(cli):
    """Runs lines as a batch."""

    def run(*lines, flags=("--write", "--quiet")):
        content = b"\n".join(one if isinstance(one, bytes) else one.encode() for one in lines)
        return cli("run", "--batch", cli.file(content, "batch.jsonl"), *flags)

    return run


def lines_of(text):
    return [json.loads(one) for one in text.splitlines()]


def told(done):
    """What the text says of each line: its word, then the rest."""
    *each, totals = done.out.partition("\nnext: ")[0].strip().splitlines()
    found = {}
    for one in each:
        word, _, rest = one.partition(" line ")
        number, _, rest = rest.partition(" ")
        found[int(number)] = (word.strip(), rest.strip())
    return found, totals


def test_each_line_is_a_session(batch, cli, remote):
    done = batch(b"\xef\xbb\xbf" + line("a").encode() + b"\r", "", line("b", text=NO_ENDS), "  \t", line("c"))
    found, totals = told(done)
    assert found == {number: ("completed", name) for number, name in ((1, "a"), (3, "b"), (5, "c"))}
    assert (done.code, done.err, totals) == (0, "", "3 sessions: 3 completed")
    assert remote.requests == ["PUT /row"] * 3
    plan = json.loads(cli.bytes_in_store()["b/planned-writeback.json"])
    assert plan["operations"][0]["payload"] == {"text": NO_ENDS}


WRONG = {
    b"nonsense": "column 1: not JSON: Expecting value",
    b'{"session_id": "w", "planted-secret': "column 21: not JSON: Unterminated string starting at",
    b'["planted-secret"]': "not a session: write {",
    b'{"session_id": "w"}': "operations is missing",
    b'{"session_id": "w", "operations": [], "extra": "planted-secret"}': "extra is unknown here",
    b'{"session_id": "w", "operations": []}': "session w has no operations",
    b'{"session_id": "../w", "operations": []}': "session",
    b'{"session_id": "w", "operations": [{"kind": "row", "payload": "planted-secret"}]}': "payload",
    b'{"session_id": "w", "session_id": "v"}': "stands twice",
    b'{"n": 1e999}': "larger than a number can be",
    b"[" * 100_000: "nested too deeply",
    b'{"session_id": "\xff"}': "byte 17 is not UTF-8",
    line("w", "nope").encode(): "has no kind 'nope'",
    b'{"session_id": "v", "operations": [{"kind": "row", "payload": {"wrong": "planted-secret"}}]}': "text",
    line("a", text="planted-secret").encode(): "line 1 has session a, too, with other content",
    line("old", text="planted-secret").encode(): "session old was completed with other operations",
}


def test_a_line_that_is_wrong_costs_that_line(batch, cli, remote):
    cli("run", cli.session("row", session_id="old"), "--write")
    done = batch(line("a"), *WRONG, line("z"), flags=["--write", "--quiet", "--concurrency", 4])
    assert done.code == 2
    found, totals = told(done)
    assert found.pop(1) == ("completed", "a")
    assert found.pop(len(WRONG) + 2) == ("completed", "z")
    for (number, (word, said)), expected in zip(sorted(found.items()), WRONG.values(), strict=True):
        assert word == "refused", number
        assert expected in said
    assert totals == f"{len(WRONG) + 2} sessions: " + ", ".join(
        sorted(("2 completed", f"{len(WRONG)} refused"), key=totals.index)
    )
    assert "planted-secret" not in done.out + done.err
    assert len(remote.requests) == 3


def test_a_line_that_is_too_long_costs_that_line(batch, cli, remote, monkeypatch):
    monkeypatch.setattr(batch_file, "_LONGEST", 200)
    monkeypatch.setattr(batch_file, "_PIECE", 64)
    found, _ = told(batch(line("a"), line("b", text="x" * 1000), line("c"), line("d", text="x" * 1000)))
    assert {number: word for number, (word, _) in found.items()} == {
        1: "completed",
        2: "refused",
        3: "completed",
        4: "refused",
    }
    assert "longer than" in found[4][1]
    assert len(remote.requests) == 2


def test_the_same_again_sends_nothing_twice(batch, cli, remote):
    lines = [line(name, "row", "row") for name in "ab"]
    remote.answers = [201, 503, 503]
    done = batch(*lines)
    assert (done.code, told(done)[0][1][0]) == (75, "resume_needed")
    assert (
        "next: run the same command again; what is done is not sent twice. Or: writeahead sweep" in done.out
    )
    again = batch(*lines, flags=["--write", "--quiet", "--json"])
    statuses = {one["line"]: one["report"]["status"] for one in again.json["sessions"]}
    assert statuses == {1: "completed"} | {2: "no_resume_needed"}
    assert (again.code, again.json["next_step"]) == (0, None)
    assert again.json["totals"] == {"completed": 1, "no_resume_needed": 1}
    assert set(remote.effects.values()) == {1}
    assert len(remote.effects) == 4


def test_what_was_planned_is_finished_by_a_sweep(batch, cli, remote):
    remote.answers = [503, 503]
    assert batch(line("a"), line("b")).code == 75
    assert cli("sweep", "--write", "--quiet").code == 0
    assert batch(line("a"), line("b")).code == 0
    assert set(remote.effects.values()) == {1}
    assert len(remote.effects) == 2


def test_without_write_nothing_is_sent(batch, cli, remote):
    done = batch(line("a"), "wrong", line("b"), flags=[])
    found, _ = told(done)
    assert [word for word, _ in found.values()] == ["planned", "refused", "planned"]
    assert "next: nothing was sent; run it again with --write" in done.out
    assert remote.requests == []
    assert {name.split("/")[0] for name in cli.bytes_in_store()} == {".dry-run"}


def test_an_empty_file_is_nothing_to_do(batch, remote):
    done = batch("", " ")
    assert (done.code, done.out.startswith("no sessions in "), done.out.count("\n")) == (0, True, 1)
    assert "batch.jsonl" in done.out


@pytest.mark.parametrize(
    ("answers", "sent", "ends"),
    [
        ([], ([line("a")], []), (0, {"completed": 1})),
        ([400], ([line("a"), line("b")], []), (1, {"blocked": 1, "completed": 1})),
        ([400], ([line("a"), "wrong"], []), (2, {"blocked": 1, "refused": 1})),
        ([418], ([line("a"), "wrong"], []), (3, {"error": 1, "refused": 1})),
        ([503, 503], ([line("a")], []), (75, {"resume_needed": 1})),
        ([503, 503, 400], ([line("a"), line("b")], []), (1, {"resume_needed": 1, "blocked": 1})),
        ([], ([line("a"), line("b")], ["--limit", 1]), (75, {"completed": 1, "left": 1})),
        ([], ([line("a"), line("a")], ["--limit", 1]), (0, {"completed": 1, "-": 1})),
        ([], ([line("a")], ["--atomic"]), (2, {"refused": 1})),
    ],
)
def test_the_exit_code_is_the_worst_of_all(batch, remote, answers, sent, ends):
    remote.answers, (lines, flags) = list(answers), sent
    done = batch(*lines, flags=["--write", "--quiet", "--json-lines", *flags])
    last = lines_of(done.out)[-1]
    assert ((done.code, last["totals"]), last["stopped"]) == (ends, False)


def test_each_line_of_json_has_the_status_that_the_totals_count(batch, remote):
    assert batch(line("done")).code == 0
    remote.answers = [201, 400]
    lines = [line("done"), line("new"), line("stuck"), line("new"), line("new", text="y"), "wrong"]
    *each, totals = lines_of(batch(*lines, flags=["--write", "--quiet", "--json-lines"]).out)
    assert [one["status"] for one in each] == [
        "no_resume_needed", "completed", "blocked", "-", "refused", "refused",
    ]  # fmt: skip
    assert Counter(one["status"] for one in each) == totals["totals"]


def test_a_remote_that_is_down_leaves_the_rest_and_says_how_it_is_finished(batch, cli, remote):
    cli.adapter(
        "down:Down",
        "from writeahead.errors import TransientError\nfrom tests.support.crm import CrmAdapter\n\n"
        "class Down(CrmAdapter):\n    def _send(self, method, operation):\n"
        "        super()._send(method, operation)\n"
        "        raise TransientError('503', applied='no', retry_after=600)\n",
        remote.url,
    )
    flags = ["--write", "--quiet", "--concurrency", 8, "--adapter", "down:Down"]
    done = batch(*(line(f"s{n}") for n in range(40)), "wrong", flags=[*flags, "--json-lines"])
    *each, totals = lines_of(done.out)
    assert totals["totals"] == {"resume_needed": 3, "left": 37, "refused": 1}
    assert totals["reasons"] == {"left": {"remote_down": 37}}
    assert totals["next_step"] == "run the same command again; what is done is not sent twice"
    assert (done.code, len(remote.requests)) == (2, 3)
    assert sum(one["left"] == "remote_down" and bool(one["not_before"]) for one in each) == 37
    assert Counter(one["status"] for one in each) == totals["totals"]


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ([], "name a FILE with a session, or give --batch"),
        (["FILE", "--batch", "FILE"], "one of the two"),
        (["FILE", "--concurrency", 2], "--concurrency is for many sessions: add --batch"),
        (["FILE", "--limit", 2], "--limit is for many sessions"),
        (["FILE", "--max-time", "5m"], "--max-time is for many sessions"),
        (["FILE", "--json-lines"], "--json-lines is for many sessions"),
        (["--batch", "FILE", "--concurrency", 0], "concurrency: give a whole number of 1 or more"),
        (["--batch", "FILE", "--limit", 0], "limit: give a whole number of 1 or more"),
        (["--batch", "FILE", "--max-time", "soon"], "--max-time soon: write a length of time"),
        (["--batch", "gone.jsonl"], "gone.jsonl: there is no such file"),
        (["--batch", "."], ".: can't be read: Is a directory"),
    ],
)
def test_flags_and_files_that_make_no_sense_are_refused(cli, remote, flags, says):
    file = cli.file(line("a"), "batch.jsonl")
    done = cli("run", "--write", *(file if flag == "FILE" else flag for flag in flags))
    assert done.code == 2
    assert says in done.err
    assert remote.requests == []


def test_a_signal_ends_a_batch_that_waits_for_the_next_line(start, cli, remote):
    flags = ["--write", "--quiet", "--json-lines"]
    process = start("run", "--batch", "-", *flags, stdin=subprocess.PIPE)
    process.stdin.write(line("a") + "\n")
    process.stdin.flush()
    first = json.loads(process.stdout.readline())
    assert (first["line"], first["report"]["status"]) == (1, "completed")
    process.send_signal(signal.SIGINT)
    assert process.stderr.readline().startswith("stopping")
    # The writer is still there, and it is not waited for.
    assert process.wait(60) == 75
    assert json.loads(process.stdout.read())["stopped"] is True
    assert process.stderr.read() == ""


def test_an_interrupt_lets_the_requests_under_way_end(start, cli, remote):
    remote.hold = True
    file = cli.file("\n".join(line(f"s{n}", "row", "row") for n in range(5)), "batch.jsonl")
    process = start("run", "--batch", file, "--write", "--quiet", "--json-lines", "--concurrency", "3")
    for _ in range(3):
        assert remote.arrived.acquire(timeout=60)
    process.send_signal(signal.SIGINT)
    assert process.stderr.readline().startswith("stopping")
    remote.go_on.set()
    code, out, _ = finished(process)
    *each, totals = lines_of(out)
    assert [one["report"]["status"] for one in each] == ["resume_needed"] * 3
    assert (code, totals["stopped"], len(remote.requests)) == (75, True, 3)
    remote.hold = False
    assert cli("run", "--batch", file, "--write", "--quiet", "--concurrency", 3).code == 0
    assert set(remote.effects.values()) == {1}
    assert (len(remote.effects), len(remote.requests)) == (10, 10)


@pytest.mark.skipif(os.environ.get("WRITEAHEAD_TESTS") != "full", reason="WRITEAHEAD_TESTS=full runs it")
def test_memory_does_not_grow_with_the_file(start, cli, remote):
    """A line without a session, one that is sent, one that is there already: 20,000 of them all."""

    def peak(name, count):
        lines = [
            line(f"{name}{n}" if n < 200 else f"{name}-{n}", "row" if n < 200 else "nope")
            for n in range(count)
        ]
        file = cli.file("\n".join(lines), f"{name}.jsonl")
        process = start(
            "run", "--batch", file, "--write", "--quiet", "--json-lines", "--concurrency", "4",
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 2
        return usage.ru_maxrss

    few, many = peak("few", 1000), peak("many", 20_000)
    print(f"peak of memory: {few} KiB of 1,000 lines, {many} KiB of 20,000")
    assert many < few + 8 * 1024
