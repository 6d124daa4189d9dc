"""``writeahead report``: what is written where, and what is refused."""

import json
import os
import stat
import sys

import pytest


@pytest.fixture
def blocked(cli, remote):
    """A session whose first operation was rejected."""
    remote.answers = [400]
    cli("run", cli.session("row", "row", session_id="bad"), "--write")
    return cli


def test_the_file_has_the_sessions_and_what_to_do(blocked):
    before = blocked.bytes_in_store()
    done = blocked("report", "--html", "report.html", "--store", "./artifacts")
    assert (done.code, done.err) == (0, "")
    assert done.out == "wrote report.html\n"
    page = (blocked.folder / "report.html").read_text("ascii")
    assert '<code class="command">writeahead unblock bad --store ./artifacts --reason TEXT</code>' in page
    assert '"id":"bad"' in page
    assert "1 row" not in page
    assert blocked.bytes_in_store() == before


def test_payloads_come_by_a_flag_into_a_file_that_others_can_not_read(blocked):
    file = blocked.folder / "report.html"
    assert blocked("report", "--html", file, "--with-payloads").code == 0
    assert "1 row" in file.read_text()
    if os.name != "nt":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_file_that_exists_is_replaced_as_a_whole_or_not_at_all(blocked, monkeypatch):
    file = blocked.folder / "report.html"
    file.write_text("yesterday's")
    assert blocked("report", "--html", file).code == 0
    new = file.read_text()
    assert new.startswith("<!DOCTYPE html>")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    done = blocked("report", "--html", file)
    assert done.code == 2
    assert "No space left on device" in done.err
    assert file.read_text() == new
    assert sorted(path.name for path in blocked.folder.iterdir() if "report" in path.name) == ["report.html"]


def test_a_dash_is_stdout(blocked):
    done = blocked("report", "--html", "-")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("<!DOCTYPE html>")
    assert done.out.endswith("</html>\n")
    assert not (blocked.folder / "-").exists()


def test_json_tells_what_was_written(blocked):
    done = blocked("report", "bad", "--html", "report.html", "--json")
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out) == {"file": "report.html", "sessions": 1, "unread": 0, "html": None}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "name the file to write: --html report.html, or --html - for stdout"),
        (["--html", "."], "this is no file"),
        (["--html", "nowhere/report.html"], "can't be written"),
        (["--html", "report.html", "--state", "odd"], "odd"),
        (["--html", "report.html", "--limit", "0"], "--limit"),
        (["--html", "report.html", "--concurrency", "0"], "concurrency"),
        (["--html", "report.html", "../x"], "../x"),
    ],
)
def test_what_can_not_be_done_is_refused(cli, arguments, said):
    done = cli("report", *arguments, "--missing-ok")
    assert done.code == 2
    assert said in done.err
    assert not list(cli.folder.glob("*.html"))


def test_a_store_that_is_not_there_is_no_empty_one(cli):
    done = cli("report", "--html", "report.html", "--store", "./mistyped")
    assert done.code == 3
    assert "there is no such folder" in done.err
    assert not (cli.folder / "report.html").exists()
    assert cli("report", "--html", "report.html", "--store", "./mistyped", "--missing-ok").code == 0
    assert "There are no sessions here." in (cli.folder / "report.html").read_text()


def test_a_missing_extra_is_named(cli, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    monkeypatch.delitem(sys.modules, "writeahead.report.html.render", raising=False)
    done = cli("report", "--html", "report.html", "--missing-ok")
    assert done.code == 2
    assert 'pip install "writeahead[report]"' in done.err
    assert not (cli.folder / "report.html").exists()


def test_a_named_session_that_is_not_there_fails_and_is_on_the_page(blocked):
    done = blocked("report", "bad", "nothing", "--html", "report.html")
    assert done.code == 3
    page = (blocked.folder / "report.html").read_text()
    assert "holds nothing of it" in page
    assert "unblock bad" in page
