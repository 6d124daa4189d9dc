"""The HTML report as one file: nothing in it is loaded from elsewhere, and no value is markup."""

import hashlib
import json
from base64 import b64encode
from importlib.resources import files

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from writeahead.report.html.views import Report

__all__ = ["render"]

# What could end the element that holds the data, or begin another: the HTML standard, 4.12.1.3.
_IN_A_SCRIPT = {ord(char): f"\\u{ord(char):04x}" for char in "<>&"}
# A bar of a state that is a small part of all still has to be seen.
_LEAST = 2.0


def render(report: Report) -> str:
    """Make the page.

    Args:
        report: What is on it.

    Returns:
        An HTML document in ASCII, so that no encoding can change it.
    """
    environment = Environment(
        autoescape=True,
        loader=FunctionLoader(_file),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, script = _file("style.css"), _file("script.js")
    page = environment.get_template("page.html").render(
        report=report,
        counts=report.counts(),
        bars=_bars(report),
        decisions=[row for row in report.sessions if row.needs == "decision"],
        policy=_policy(style, script),
        style=Markup(style),  # noqa: S704 - a file of this package
        script=Markup(script),  # noqa: S704 - likewise
        data=Markup(_data(report)),  # noqa: S704 - _IN_A_SCRIPT left nothing that is markup
    )
    return page.encode("ascii", "xmlcharrefreplace").decode("ascii")


def _file(name: str) -> str:
    return files("writeahead.report.html").joinpath(name).read_text(encoding="utf-8")


def _data(report: Report) -> str:
    """The sessions, for the script; defaults are left out."""
    sessions = [row.model_dump(mode="json", exclude_defaults=True) for row in report.sessions]
    document = {"sessions": sessions, "values": report.with_payloads}
    return json.dumps(document, separators=(",", ":"), ensure_ascii=True).translate(_IN_A_SCRIPT)


def _policy(style: str, script: str) -> str:
    """What the browser may load and run: this style and this script, and nothing from elsewhere.

    As Content Security Policy Level 3 has it: https://www.w3.org/TR/CSP3/.
    """
    return (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; img-src data:;"
        " base-uri 'none'; form-action 'none'"
    )


def _hash(source: str) -> str:
    return f"sha256-{b64encode(hashlib.sha256(source.encode()).digest()).decode()}"


def _bars(report: Report) -> list[tuple[str, float, float]]:
    """How large each state's part of all sessions is: the state, from where, and how wide, in %."""
    counts = report.counts()
    total = sum(count for _, count in counts)
    widths = [max(_LEAST, 100 * count / total) for _, count in counts]
    bars, place = [], 0.0
    for (state, _), width in zip(counts, widths, strict=True):
        share = 100 * width / sum(widths)
        bars.append((state, round(place, 2), round(share, 2)))
        place += share
    return bars
