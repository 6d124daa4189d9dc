"""The HTML report in Chromium: `nox -s web` runs this, with a Node that has playwright and axe."""

import json
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

from tests.web.demo_store import Day, hostile_session, large_session, many_sessions, working_day
from tests.web.pages import page_of

MODULES = os.environ.get("WRITEAHEAD_WEB")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.skipif(
        not MODULES, reason="WRITEAHEAD_WEB names no folder with playwright and axe: nox -s web"
    ),
    pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium"),
    pytest.mark.skipif(not shutil.which("node"), reason="there is no node"),
]
# Milliseconds.
SOON = 2000
OPERATIONS = "#s-large [aria-label^=Operations] tbody"

PAGES = {
    "day": lambda: page_of(working_day()),
    "values": lambda: page_of(working_day(), with_payloads=True),
    "large": lambda: page_of(large_session(10_000), with_payloads=True),
    "many": lambda: page_of(many_sessions(2000), limit=5000, state=None),
    "hostile": lambda: page_of(hostile_session(), with_payloads=True),
    "empty": lambda: page_of(Day()),
}
made = cache(lambda name: PAGES[name]())


@pytest.fixture
def see(tmp_path):
    """Open a page, take steps on it, and return what the browser told."""

    def seen(name, *steps, **how):
        file = tmp_path / f"{name}.html"
        file.write_text(made(name), "ascii")
        asked = {"url": file.as_uri(), "chromium": CHROMIUM, "modules": MODULES, "steps": steps, **how}
        done = subprocess.run(
            ["node", str(Path(__file__).with_name("browser.mjs")), json.dumps(asked)],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert told["console"] == []
        assert told["requests"] == [file.as_uri()]
        return told

    return seen


def opened(name):
    return [
        ("click", f"#s-{name} > summary"),
        ("click", f"#s-{name} .sub summary"),
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
@pytest.mark.parametrize(
    ("name", "session"),
    [("day", "call-2003"), ("values", "call-2021"), ("hostile", "hostile"), ("empty", None)],
)
def test_axe_finds_nothing_and_nothing_is_loaded(see, name, session, width, scheme):
    steps = opened(session) if session else []
    width_of_page = ("evaluate", "document.documentElement.scrollWidth")
    told = see(name, *steps, width_of_page, ("axe", None), width=width, scheme=scheme, axe=True)
    assert told["answers"] == [width, []]


def test_ten_thousand_operations_are_there_soon(see):
    """The best of three, since the machine may be busy."""
    opens = ("timed", "document.querySelector('#s-large > summary').click()")
    times = []
    for _ in range(3):
        told = see("large", opens, ("count", f"{OPERATIONS} tr"))
        took, count = told["answers"]
        assert count == 100
        times.append(told["loaded"] + took)
    assert min(times) < SOON


def test_one_of_ten_thousand_operations_is_found(see):
    told = see(
        "large",
        ("click", "#s-large > summary"),
        ("fill", ["#s-large .opfilter input", "9999-activity"]),
        ("wait", [f"{OPERATIONS} th", "9999-activity"]),
        ("count", f"{OPERATIONS} tr"),
    )
    assert told["answers"] == [1]


def test_two_thousand_sessions_can_be_searched(see):
    told = see(
        "many",
        ("count", "#list > li"),
        ("fill", ["#search", "call-01234"]),
        ("wait", ["#found", "1 of"]),
        ("count", "#list > li"),
        ("text", "#list h3"),
    )
    assert told["answers"] == [100, 1, "call-01234"]
    assert told["loaded"] < SOON


def test_states_are_filters(see):
    told = see(
        "day",
        ("click", "button.count.blocked"),
        ("count", "#list > li"),
        ("text", "#found"),
        ("click", "button.count.completed"),
        ("count", "#list > li"),
        ("click", "button.count.blocked"),
        ("text", "#found"),
    )
    assert told["answers"] == [3, "3 of 15", 9, "6 of 15"]


def test_hostile_values_stay_text(see):
    told = see(
        "hostile",
        *opened("hostile"),
        ("click", "#s-hostile td details summary"),
        ("click", "#s-hostile td details button"),
        ("evaluate", "[window.hit === undefined, document.scripts.length, document.images.length]"),
        ("evaluate", "document.querySelector('#s-hostile pre').textContent.includes('<img src=x onerror')"),
        ("evaluate", "document.querySelector('#s-hostile pre').textContent.length > 1000000"),
    )
    assert told["answers"] == [[True, 2, 0], True, True]


def test_the_policy_stops_what_would_be_put_into_the_page(see, tmp_path):
    """A mark-up that got in would still not run, nor send anything."""
    script = "<script>window.hit = 1</script><img src='http://127.0.0.1:9/x'>"
    broken = made("day").replace("</main>", f"{script}</main>")
    file = tmp_path / "broken.html"
    file.write_text(broken)
    asked = {
        "url": file.as_uri(),
        "chromium": CHROMIUM,
        "modules": MODULES,
        "steps": [("evaluate", "window.hit")],
    }
    done = subprocess.run(
        ["node", str(Path(__file__).with_name("browser.mjs")), json.dumps(asked)],
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(done.stdout)
    assert told["answers"] in ([], [None])
    assert len([line for line in told["console"] if "Content Security Policy" in line]) == 2


def test_without_scripts_the_decisions_are_there(see):
    told = see("day", ("text", ".decide"), ("text", ".glance"), scripts=False)
    decisions, glance = told["answers"]
    assert "writeahead unblock call-2014" in decisions
    assert "never use the id again" in decisions
    assert "3 blocked" in glance.replace("\n", " ")


def test_the_keyboard_is_enough(see):
    told = see(
        "day",
        ("press", "Tab"),
        ("evaluate", "document.activeElement.className"),
        ("press", "/"),
        ("evaluate", "document.activeElement.id"),
        ("fill", ["#search", "call-2021"]),
        ("wait", ["#found", "1 of"]),
        ("press", "Tab"),
        ("press", "Enter"),
        ("evaluate", "document.querySelector('#s-call-2021').open"),
        ("evaluate", "document.activeElement.tagName"),
    )
    assert told["answers"] == ["skip", "search", True, "SUMMARY"]


def test_a_card_leads_to_its_session(see):
    told = see(
        "day",
        ("click", ".card h3 a"),
        ("evaluate", "document.querySelector('.session[open]').id"),
        ("evaluate", "document.querySelectorAll('.session[open] svg.drawing[role=img] title').length > 3"),
    )
    assert told["answers"] == ["s-call-2014", True]
