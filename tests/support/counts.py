"""What the proofs tried, in figures, at the end of a test run.

A test prints what it counted, as "33 kills" or "66392 states", and its seed. Here that is added up
over all its parameters, one line for each test function, also where pytest-xdist swallows what a
test prints.
"""

import re
from collections import Counter, defaultdict

_COUNT = re.compile(
    r"\b(\d+) (events|faults|foreign contents|found out|images|kills|pairs|schedules|states|steps)\b"
)
_SEED = re.compile(r"\bWRITEAHEAD_SEED=(\d+)\b")


def print_counts(terminalreporter) -> None:
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    seeds: defaultdict[str, list[str]] = defaultdict(list)
    seconds: Counter[str] = Counter()
    for report in terminalreporter.stats.get("passed", ()):
        test = report.nodeid.split("[")[0]
        for number, what in _COUNT.findall(report.capstdout):
            counts[test][what] += int(number)
        if test in counts:
            seconds[test] += report.duration
            seeds[test] += _SEED.findall(report.capstdout)
    if counts:
        terminalreporter.section("counts")
    for test, found in sorted(counts.items()):
        tried = ", ".join(f"{number} {what}" for what, number in found.items())
        seed = f", seed {' '.join(dict.fromkeys(seeds[test]))}" if seeds[test] else ""
        terminalreporter.write_line(f"{test}: {tried}{seed}; {seconds[test]:.0f} s")
