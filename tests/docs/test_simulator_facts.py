"""Each fact that the simulator imitates is held by a test that exists."""

import re

import pytest

from tests.support.doc_blocks import ROOT

PAGE = (ROOT / "docs/simulator.md").read_text(encoding="utf-8")
FOLDER = ROOT / "tests/simulators/dataverse"
FACTS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in PAGE.split("## What it imitates")[1].split("\n## ")[0].splitlines()
    if line.startswith("| ") and not line.startswith("| what |")
]


def defined(file):
    return set(re.findall(r"^def (test_\w+)\(", (FOLDER / file).read_text(encoding="utf-8"), re.MULTILINE))


def test_the_tables_are_read():
    assert len(FACTS) > 90


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact[0])
def test_a_fact_has_a_source_and_a_test(fact):
    _, how, source, tests = fact
    assert how
    assert source
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", tests)
    assert len(named) == tests.count("`") / 2 > 0
    for file, test in named:
        assert test in defined(file), f"{file} has no {test}"
