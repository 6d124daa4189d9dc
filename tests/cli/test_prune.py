"""``prune``: what it says, what it does, and its exit codes."""

from datetime import timedelta

import pytest

from writeahead.cli.prune import age_of
from writeahead.errors import InvalidInput
from writeahead.protocol import retry

LEFT = {"s1/planned-writeback.json", "s1/pruned"}


@pytest.fixture
def later(monkeypatch):
    """Makes it a hundred days from now."""
    now = retry.Clock().now()
    return lambda: monkeypatch.setattr(retry.Clock, "now", lambda _: now + timedelta(days=100))


def completed(cli, *ids):
    for session_id in ids:
        assert cli("run", cli.session("row", session_id=session_id), "--write", "-q").code == 0


def test_it_shows_what_it_would_do_and_then_does_it(cli, remote, later):
    completed(cli, "s1")
    remote.answers = [503, 503]
    assert cli("run", cli.session("row", session_id="open"), "--write", "-q").code == 75
    later()
    before = cli.bytes_in_store()
    done = cli("prune", "--older-than", "90d")
    assert (done.code, done.err) == (0, "")
    line, total, hint = done.out.splitlines()
    assert line.split()[:5] == ["completed", "s1", "1", "objects,", line.split()[4]]
    assert total.startswith("1 session would be pruned: 1 objects, ")
    assert hint == "Nothing was done. Add --write to do it."
    assert cli.bytes_in_store() == before
    done = cli("prune", "--older-than", "90d", "--write", "--json")
    assert (done.code, done.json["written"], done.json["stopped"]) == (0, True, False)
    (found,) = done.json["sessions"]
    assert [found[name] for name in ("session_id", "status", "objects", "written", "error")] == [
        *("s1", "completed", 1, True, None)
    ]
    assert done.json["totals"] == {"sessions": 1, "failed": 0, "objects": 1, "bytes": found["size"]}
    left = cli.bytes_in_store()
    assert {key for key in left if key.startswith("s1/")} == LEFT
    assert {key: data for key, data in left.items() if "open" in key} == {
        key: data for key, data in before.items() if "open" in key
    }
    assert cli("prune", "--older-than", "90d").out == f"no session to prune in {cli.store.as_uri()}\n"


def test_what_the_other_commands_say_of_a_pruned_session(cli, remote, later):
    completed(cli, "s1")
    file = cli.session("row", session_id="s1")
    later()
    cli("prune", "--older-than", "1h", "--write")
    requests = list(remote.requests)
    assert cli("list", "--json").json["sessions"] == []
    (listed,) = cli("list", "--state", "pruned", "--json").json["sessions"]
    assert (listed["session_id"], listed["status"], listed["next_step"]) == ("s1", "completed", None)
    shown = cli("show", "s1")
    assert shown.code == 0
    assert "pruned 2" in shown.out
    assert (cli("show", "s1", "--json").json["status"], cli("resume", "s1").code) == ("completed", 0)
    again = cli("run", file, "--write")
    assert again.code == 0
    assert again.out.startswith("s1  no_resume_needed")
    assert "its payloads and receipts are gone" in again.out
    other = cli("run", cli.session("row", "row", session_id="s1"), "--write")
    assert other.code == 2
    assert "was for another request" in other.err
    assert cli("remaining", "s1").code == 2
    assert cli("sweep", "--write", "--scan").code == 0
    assert remote.requests == requests


def test_of_an_abandoned_one_nothing_remains(cli, remote, later):
    remote.answers = [400]
    cli("run", cli.session("row"), "--write", "-q")
    assert cli("abandon", "s1", "--reason", "x").code == 0
    later()
    assert cli("prune", "--older-than", "90d", "--write").code == 0
    for command in (["show", "s1"], ["run", cli.session("row"), "--write"], ["list", "--state", "pruned"]):
        done = cli(*command)
        assert "abandoned" in done.out
        assert "remaining" not in done.out
    done = cli("remaining", "s1")
    assert (done.code, "was abandoned, and pruned at" in done.err) == (2, True)


def test_an_archive_has_the_final_artifact(cli, later, tmp_path):
    completed(cli, "s1", "s2")
    later()
    final = cli.bytes_in_store()["s1/writeback.json"]
    (tmp_path / "kept/s2").mkdir(parents=True)
    (tmp_path / "kept/s2/writeback.json").write_text("another")
    done = cli("prune", "--older-than", "90d", "--archive", tmp_path / "kept", "--write")
    assert done.code == 3
    assert "s2/writeback.json: the archive has another one" in done.out
    assert "1 session pruned" in done.out
    assert "; 1 failed" in done.out
    assert (tmp_path / "kept/s1/writeback.json").read_bytes() == final
    assert cli("show", "s1", "--store", tmp_path / "kept", "--json").json["status"] == "completed"
    same = cli("prune", "--older-than", "90d", "--archive", cli.store, "--write")
    assert (same.code, "the same place" in same.err) == (2, True)


def test_a_limit(cli, later):
    completed(cli, "s1", "s2", "s3")
    later()
    arguments = ("prune", "--older-than", "90d", "--write", "--limit", "2", "--json")
    assert [found["session_id"] for found in cli(*arguments).json["sessions"]] == ["s1", "s2"]
    assert [found["session_id"] for found in cli(*arguments).json["sessions"]] == ["s3"]
    assert cli("prune", "--older-than", "90d", "--limit", "0").code == 2


def test_a_store_that_is_not_there(cli, later):
    assert cli("prune", "--older-than", "90d").code == 3
    done = cli("prune", "--older-than", "90d", "--missing-ok", "--json")
    assert (done.code, done.json["sessions"]) == (0, [])
    assert done.json["totals"] == {"sessions": 0, "failed": 0, "objects": 0, "bytes": 0}


def test_an_age():
    assert age_of("90d") == timedelta(days=90)
    assert age_of("1h") == timedelta(hours=1)
    assert age_of("52w") == timedelta(weeks=52)


@pytest.mark.parametrize(
    "given", ["", "90", "d", "-1d", "1.5d", "90 d", "3m", "0h", "90D", "9999999d", "\u0663d"]
)
def test_what_is_no_age_is_named(cli, given):
    with pytest.raises(InvalidInput, match="--older-than: "):
        age_of(given)
    done = cli("prune", f"--older-than={given}", "--missing-ok")
    assert done.code == 2
    assert "--older-than: " in done.err
    assert repr(given) in done.err or "too short" in done.err


def test_an_age_must_be_given(cli):
    assert cli("prune").code == 2
    assert cli("prune", "--older-than", "999999w", "--missing-ok").code == 0


def test_a_bad_archive_is_named(cli, later):
    completed(cli, "s1")
    done = cli("prune", "--older-than", "90d", "--archive", "ftp://x")
    assert done.code == 2
    assert "--archive: " in done.err
