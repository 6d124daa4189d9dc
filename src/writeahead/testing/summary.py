"""What the contract kits found: a line for each store, and for each kind of an adapter.

writeahead's pytest plugin prints it. Where plugins are not loaded by themselves, import the hook in
a ``conftest.py``::

    from writeahead.testing.summary import pytest_terminal_summary
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import pytest

__all__ = ["pytest_terminal_summary"]

# The property that each test of a contract carries; it survives a run in several processes.
PROPERTY = "store_contract"
ADAPTER_PROPERTY = "adapter_contract"
# The plugin, a conftest.py and a -p may all ask for it.
_IS_PRINTED = pytest.StashKey[bool]()
_COLUMNS = ("cases", "duplicates", "losses", "stuck", "leaks")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print for each subclass of a contract how much was tried, and what it declared impossible."""
    stash = terminalreporter.config.stash
    if stash.get(_IS_PRINTED, False):
        return
    stash[_IS_PRINTED] = True
    _sum_up_stores(terminalreporter)
    _sum_up_adapters(terminalreporter)


def _reports(terminalreporter: Any, name: str) -> Iterator[tuple[str, Any, str]]:
    """Each test's outcome, its value of a property, and the reason if it was skipped."""
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, ()):
            value = dict(getattr(report, "user_properties", ())).get(name)
            if value is None:
                continue
            why = report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longrepr
            yield outcome, value, str(why).removeprefix("Skipped: ") if outcome == "skipped" else ""


def _sum_up_stores(terminalreporter: Any) -> None:
    ran: defaultdict[str, Counter[str]] = defaultdict(Counter)
    impossible: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for outcome, name, reason in _reports(terminalreporter, PROPERTY):
        ran[name][outcome] += 1
        if reason:
            impossible[name][reason] += 1
    if not ran:
        return
    terminalreporter.section("store contract")
    for name, counts in sorted(ran.items()):
        skipped = counts.pop("skipped", 0)
        found = ", ".join(f"{number} {outcome}" for outcome, number in counts.items()) or "none run"
        terminalreporter.write_line(f"{name}: {sum(counts.values())} run, {found}; {skipped} impossible")
        for reason, number in impossible[name].items():
            terminalreporter.write_line(f"  {number} {reason}")


def _sum_up_adapters(terminalreporter: Any) -> None:
    """Print for each kind how many cases were tried, and in how many of them what went wrong."""
    found: defaultdict[tuple[str, str, str], Counter[str]] = defaultdict(Counter)
    impossible: set[str] = set()
    for _, tallied, reason in _reports(terminalreporter, ADAPTER_PROPERTY):
        for kind, tally in tallied["kinds"].items():
            found[tallied["name"], kind, tally["replay"]].update({name: tally[name] for name in _COLUMNS})
        if reason:
            impossible.add(f"{tallied['name']}: {reason}")
    if not found:
        return
    terminalreporter.section("adapter contract")
    names = [f"{name} {kind} ({replay})" for name, kind, replay in found]
    width = max(map(len, names))
    terminalreporter.write_line(" ".join(["".ljust(width), *(column.rjust(10) for column in _COLUMNS)]))
    for name, counts in sorted(zip(names, found.values(), strict=True), key=lambda item: item[0]):
        numbers = (str(counts[column]).rjust(10) for column in _COLUMNS)
        terminalreporter.write_line(" ".join([name.ljust(width), *numbers]))
    for line in sorted(impossible):
        terminalreporter.write_line(line)
