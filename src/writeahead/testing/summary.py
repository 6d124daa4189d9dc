"""What the contract kit found, one line a backend, at the end of a pytest run.

To see it, import the hook in a ``conftest.py``::

    from writeahead.testing.summary import pytest_terminal_summary
"""

from collections import Counter, defaultdict
from typing import Any

__all__ = ["pytest_terminal_summary"]

# The property that each test of a contract carries; it survives a run in several processes.
PROPERTY = "store_contract"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print for each subclass of `StoreContract` how many tests ran, and what it declared impossible."""
    ran: defaultdict[str, Counter[str]] = defaultdict(Counter)
    impossible: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, ()):
            name = dict(getattr(report, "user_properties", ())).get(PROPERTY)
            if name is None:
                continue
            ran[name][outcome] += 1
            if outcome == "skipped":
                reason = str(report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longrepr)
                impossible[name][reason.removeprefix("Skipped: ")] += 1
    if not ran:
        return
    terminalreporter.section("store contract")
    for name, counts in sorted(ran.items()):
        skipped = counts.pop("skipped", 0)
        found = ", ".join(f"{number} {outcome}" for outcome, number in counts.items()) or "none run"
        terminalreporter.write_line(f"{name}: {sum(counts.values())} run, {found}; {skipped} impossible")
        for reason, number in impossible[name].items():
            terminalreporter.write_line(f"  {number} {reason}")
