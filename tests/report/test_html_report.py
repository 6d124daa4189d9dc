"""The HTML report: what is in the file, parsed as a browser does, against the store."""

import base64
import hashlib
import json
import re
import shlex
from collections import Counter
from datetime import timedelta
from html.parser import HTMLParser

import pytest

from tests.web.demo_store import HOSTILE, Day, Killed, down, hostile_session, working_day
from tests.web.pages import STORE, page_of, report_of
from writeahead.errors import AccessDenied, PermanentError
from writeahead.model import BlockReason, RunStatus
from writeahead.protocol.finding import State
from writeahead.report.html.gather import COMPLETED
from writeahead.report.html.render import render
from writeahead.report.html.rows import split_step
from writeahead.report.html.timeline import Scale
from writeahead.report.html.views import visible
from writeahead.report.page import next_step

VOID = {"meta", "link", "input"}


class Parsed(HTMLParser):
    """The elements of a page, and the text in each that is closed."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.elements, self.texts, self._open = [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append((tag, dict(attrs), []))

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        while self._open:
            name, attrs, text = self._open.pop()
            self.texts.append((name, attrs, "".join(text)))
            if name == tag:
                return

    def handle_data(self, data):
        for _, _, text in self._open:
            text.append(data)

    def of(self, tag):
        return [(attrs, text) for name, attrs, text in self.texts if name == tag]

    @property
    def data(self):
        (data,) = [text for attrs, text in self.of("script") if attrs.get("id") == "data"]
        return json.loads(data)


@pytest.fixture(scope="module")
def day():
    return working_day()


@pytest.fixture(scope="module")
def report(day):
    return report_of(day)


@pytest.fixture(scope="module")
def page(report):
    return render(report)


def by_id(report):
    return {row.id: row for row in report.sessions}


def test_the_page_is_one_file_that_loads_nothing(page):
    parsed = Parsed(page)
    links = [
        value
        for _, attrs in parsed.elements
        for name, value in attrs.items()
        if name in ("src", "href", "action", "srcset", "data", "poster", "xlink:href", "background")
    ]
    assert [link for link in links if not link.startswith(("#", "data:"))] == []
    (style,) = [text for _, text in parsed.of("style")]
    assert re.findall(r"@import|image-set|url\((?!#)", style) == []
    assert {tag for tag, _ in parsed.elements} & {"iframe", "object", "embed", "base", "img", "form"} == set()


def test_the_policy_allows_just_this_style_and_this_script(page):
    parsed = Parsed(page)
    (policy,) = [
        attrs["content"]
        for _, attrs in parsed.elements
        if attrs.get("http-equiv") == "Content-Security-Policy"
    ]
    (style,) = [text for _, text in parsed.of("style")]
    (script,) = [text for attrs, text in parsed.of("script") if "type" not in attrs]
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert directives["default-src"] == "'none'"
    assert directives["style-src"] == f"'sha256-{hashes[0]}'"
    assert directives["script-src"] == f"'sha256-{hashes[1]}'"
    assert [attrs for _, attrs in parsed.elements if "style" in attrs] == []


def test_the_page_without_its_data_is_small(page):
    (data,) = [text for attrs, text in Parsed(page).of("script") if attrs.get("id") == "data"]
    assert len(page) - len(data) <= 150_000
    assert page.isascii()


def test_values_are_in_the_file_only_if_asked_for(day, page):
    secrets = ["Aster", "written offer", "kind_of_work", "71042", "T-1", "-1-activity"]
    assert [text for text in secrets if text in page] == []
    shown = page_of(day, with_payloads=True)
    assert [text for text in secrets if text not in shown] == []
    heads = ["This file holds payloads and receipts.", "values are not in this file"]
    assert [head in page for head in heads] == [False, True]
    assert [head in shown for head in heads] == [True, False]


def test_what_needs_a_decision_comes_first_and_needs_no_script(report, page):
    parsed = Parsed(re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL))
    cards = [text for attrs, text in parsed.of("li") if attrs.get("class", "").startswith("card")]
    assert len(cards) == 4
    for name in ("call-2014", "call-2017", "call-2021", "call-1987"):
        assert any(name in card for card in cards)
    (unknown,) = [card for card in cards if "call-2014" in card]
    assert f"writeahead unblock call-2014 --store {STORE} --reason TEXT --assume" in unknown
    assert "outcome_unknown" in unknown
    assert "POST emails: connection reset" in unknown
    assert [row["id"] for row in Parsed(page).data["sessions"]][:4] == [
        row.id for row in report.sessions if row.needs == "decision"
    ]


def test_each_state_is_told_and_counted(report):
    states = {row.id: row.state for row in report.sessions}
    assert states["call-2003"] == states["call-1990"] == "completed"
    assert states["call-2014"] == states["call-2017"] == states["call-2021"] == "blocked"
    assert states["call-1987"] == "unreadable"
    assert states["call-2029"] == "abandoned"
    assert states["call-2033"] == states["call-2035"] == states["invoice-88"] == "resume_needed"
    assert states["call-2038"] == "in_progress"
    assert dict(report.counts()) == {
        "unreadable": 1,
        "blocked": 3,
        "resume_needed": 3,
        "in_progress": 1,
        "abandoned": 1,
        "completed": 6,
    }


def test_only_a_session_that_stopped_says_where(report):
    stopped = {row.id: dict(row.facts).get("Stopped at") for row in report.sessions}
    assert stopped["call-2017"] == "3-task"
    assert stopped["call-2038"] is stopped["call-2003"] is None


def test_an_unreadable_session_says_why_and_hides_no_other(report):
    row = by_id(report)["call-1987"]
    assert "its checksum does not match" in row.error
    assert "restore call-1987/writeback.json" in " ".join(row.way_out)
    assert (row.confirmed, row.total) == (3, 5)


def test_a_store_that_refuses_one_session_hides_no_other(day, monkeypatch):
    read = day.store._get

    def refusing(key):
        if key.startswith("call-2014/"):
            raise AccessDenied(day.store.name, "get", key, "it needs s3:GetObject")
        return read(key)

    monkeypatch.setattr(day.store, "_get", refusing)
    report = report_of(day)
    assert by_id(report)["call-2014"].state == "unreadable"
    assert "it needs s3:GetObject" in by_id(report)["call-2014"].error
    assert len(report.sessions) == 15
    assert report.failed


def test_a_store_that_fails_again_and_again_is_asked_no_more(day, monkeypatch):
    asked = []

    def failing(key):
        asked.append(key.split("/")[0])
        raise AccessDenied(day.store.name, "get", key, "it needs s3:GetObject")

    monkeypatch.setattr(day.store, "_get", failing)
    report = report_of(day, state=State.OPEN)
    assert len(set(asked)) == len(report.sessions) == 3
    ((count, state, why),) = [(one.count, one.state, one.why) for one in report.unread]
    assert (count, state) == (4, "unread")
    assert "s3:GetObject" in why


def test_no_hostile_value_becomes_markup():
    day = hostile_session()
    page = page_of(day, with_payloads=True)
    parsed = Parsed(page)
    assert [tag for tag, _ in parsed.elements if tag in ("img", "iframe")] == []
    assert len(parsed.of("script")) == 2
    assert [name for _, attrs in parsed.elements for name in attrs if name.startswith("on")] == []
    (row,) = parsed.data["sessions"]
    text = visible(" ".join(" ".join(HOSTILE).split()))
    assert row["error"] == text
    assert [line["text"] for line in row["history"] if text in line.get("text", "")] != []
    (operation,) = row["operations"]
    assert "<img src=x onerror=window.hit=2>" in operation["payload"]
    assert "x" * 1_000_000 in operation["payload"]
    assert "__proto__" in operation["payload"]
    # The element holds nothing that a parser of HTML, or an old one of JavaScript, acts on.
    raw = page.partition('type="application/json">')[2].partition("</script>")[0]
    assert not set(raw) & set("<>&\u2028\u2029\0")


@pytest.mark.parametrize("char", ["\u202e", "\u2066", "\0", "\x1b", "\u2028", "\ud800", "\u200b", "\ufeff"])
def test_what_can_not_be_seen_is_written_as_its_escape(char):
    assert visible(f"a{char}b\n") == f"a\\u{ord(char):04x}b\n"


def test_half_a_surrogate_pair_reaches_the_page_as_text():
    day = Day()
    day.script["1-task"] = [PermanentError("half \udc80 pair")]
    day.run("s1", "task")
    page_of(day).encode("ascii")


@pytest.fixture
def several():
    day = Day()
    # The newest come first by name.
    for number in reversed(range(COMPLETED + 5)):
        day.run(f"done-{number:02}", "task")
    for name in ("late-1", "late-2"):
        day.script["1-task"] = [down(3600.0)]
        day.run(name, "task")
    return day


def test_of_many_completed_ones_the_newest_are_read(several):
    report = report_of(several)
    read = [row.id for row in report.sessions if row.state == "completed"]
    assert sorted(read) == [f"done-{number:02}" for number in range(COMPLETED)]
    ((count, state),) = [(one.count, one.state) for one in report.unread]
    assert (count, state) == (5, "completed")
    assert dict(report.counts()) == {"resume_needed": 2, "completed": COMPLETED + 5}


def test_open_sessions_cost_nothing_for_the_completed_ones(several, monkeypatch):
    listed = []
    read = several.store._list

    def noting(prefix, start_after):
        listed.append(prefix)
        return read(prefix, start_after)

    monkeypatch.setattr(several.store, "_list", noting)
    report = report_of(several, state=State.OPEN)
    assert [row.id for row in report.sessions] == ["late-1", "late-2"]
    assert sorted(listed) == [".blocked/", ".open/", "late-1/", "late-2/"]


def test_a_session_costs_what_the_help_says(several, monkeypatch):
    calls = Counter()
    for verb in ("get", "head", "list"):
        method = getattr(several.store, f"_{verb}")

        def counting(*arguments, verb=verb, method=method, **more):
            calls[verb] += 1
            return method(*arguments, **more)

        monkeypatch.setattr(several.store, f"_{verb}", counting)
    for name in ("done-00", "late-1"):
        calls.clear()
        (row,) = report_of(several, session_ids=(name,)).sessions
        entries = sum("/journal/" in item.key for item in row.artifacts)
        assert calls["list"] == 1
        assert calls["get"] + calls["head"] <= 6 + entries


def test_the_limit_says_what_it_left(several):
    report = report_of(several, limit=1)
    assert [row.id for row in report.sessions] == ["late-1"]
    assert {(one.state, one.count) for one in report.unread} == {("unread", 1 + COMPLETED), ("completed", 5)}
    report = report_of(several, limit=3, state=State.COMPLETED)
    assert [row.id for row in report.sessions] == ["done-00", "done-01", "done-02"]
    assert [(one.state, one.count) for one in report.unread] == [("completed", COMPLETED + 2)]


def test_several_at_once_are_the_same_page(several):
    one = report_of(several, limit=10)
    assert report_of(several, limit=10, concurrency=4) == one
    assert len(one.sessions) == 10


def test_named_sessions_are_read_and_a_missing_one_is_told(several):
    report = report_of(several, session_ids=("done-00", "late-1", "nothing"))
    assert {row.id: row.state for row in report.sessions} == {
        "done-00": "completed",
        "late-1": "resume_needed",
        "nothing": "missing",
    }
    assert report.failed


def test_a_lost_marker_needs_a_decision(several):
    several.store.delete(".open/late-1")
    row = by_id(report_of(several))["late-1"]
    assert (row.state, row.needs) == ("resume_needed", "decision")
    assert "--scan --write" in "".join(part.text for part in row.step)


def test_a_session_has_a_lane_for_each_owner(report):
    row = by_id(report)["call-2003"]
    assert [(lane.name, lane.role) for lane in row.timeline.lanes] == [
        ("worker-1, process 4120", "run"),
        ("worker-2, process 902", "resume"),
        ("worker-3, process 77", "takeover"),
    ]
    first, second, third = row.timeline.lanes
    assert first.marks[0].event == "planned"
    assert first.marks[-1].event == "ended_resume_needed"
    assert third.marks[-1].event == "completed"
    assert len(second.waits) == 2
    assert sum(count for lane in row.timeline.lanes for _, count in lane.receipts) == row.total == 16
    assert first.end < second.start < second.end < third.start
    assert [gap.text for gap in row.timeline.gaps] == ["31.7 min", "4.4 min"]
    operator = by_id(report)["call-2021"].timeline.lanes[1]
    assert (operator.name, operator.role) == ("operator", "operator")


def test_the_history_is_a_table_as_well(day, report):
    row = by_id(report)["call-2003"]
    keys = [info.key for info in day.store.list("call-2003/journal/")]
    assert len(row.history) == len(keys) + 2
    assert (row.history[0].event, row.history[-1].event) == ("planned", "completed")
    taken = [line for line in row.history if "worker-2 was replaced" in line.text]
    assert [line.event for line in taken] == ["claimed"]


def test_a_wait_that_goes_on_is_drawn_until_now():
    day = Day()
    day.script["1-email"] = [down(), Killed()]
    day.run("s1", "email")
    day.script.clear()
    day.clock.advance(5)
    (row,) = report_of(day).sessions
    assert row.timeline.now == 1.0
    assert row.timeline.lanes[0].waits != ()


def test_marks_of_a_long_journal_do_not_pile_up():
    day = Day()
    day.policy = day.policy.model_copy(update={"journal_interval": 0})
    day.run("s1", *["task"] * 200)
    (row,) = report_of(day).sessions
    (lane,) = row.timeline.lanes
    assert len(row.history) > 200
    assert len(lane.marks) <= 100
    assert "times, until" in " ".join(mark.text for mark in lane.marks)


@pytest.mark.parametrize(
    ("gaps", "long"),
    [
        ([1, 1, 1, 3600, 1, 1], ["1 h"]),
        ([1, 1, 3600, 1, 3600, 1], ["1 h", "1 h"]),
        ([1, 1, 1, 1], []),
        ([5, 7, 9], []),
        ([0.01, 0.01, 1.5], []),
        ([3600], []),
        ([60, 60, 60, 86_400, 60], ["1 d"]),
    ],
)
def test_gaps_that_dwarf_the_rest_are_drawn_short(gaps, long):
    moments = [Day().clock.now()]
    for gap in gaps:
        moments.append(moments[-1] + timedelta(seconds=gap))
    scale = Scale(moments)
    assert [gap.text for gap in scale.gaps()] == long
    places = [scale(at) for at in moments]
    assert places == sorted(places)
    assert (places[0], places[-1]) == (0.0, 1.0)
    ticks = [tick.x for tick in scale.ticks()]
    assert ticks == sorted(ticks)
    assert len(ticks) < 30


STATUSES = [
    (RunStatus.RESUME_NEEDED, None),
    (RunStatus.IN_PROGRESS, None),
    (RunStatus.ABANDONED, None),
    *((RunStatus.BLOCKED, reason) for reason in BlockReason),
]


@pytest.mark.parametrize(("status", "reason"), STATUSES)
@pytest.mark.parametrize("operation", ["3-mail", "it's, then; (odd", None])
def test_commands_are_told_from_the_words_around_them(status, reason, operation):
    options = "--store 'a; b, and (c'"
    step = next_step(
        "s1", status, block_reason=reason, operation=operation, options=options, resume_options=options
    )
    parts = list(split_step(step))
    assert "".join(part.text for part in parts) == step
    for part in parts:
        if part.is_whole:
            words = shlex.split(part.text)
            assert words[:1] == ["writeahead"]
            assert words[words.index("--store") + 1] == "a; b, and (c"
            if "--assume" in words:
                assert words[-1] == (operation or "OPERATION")
        elif not part.is_command:
            assert "writeahead" not in part.text
