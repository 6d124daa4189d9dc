"""The tables of the lost-reply benchmark, and what README says of them, are what was measured."""

import copy

import pytest
from benchmarks.lost_reply.table import BEGIN, END, PAGES, pairs_of, result, table_of, with_table

from tests.support.doc_blocks import ROOT

MEASURED = result()
OURS = MEASURED["parts"]["writeahead_folder"]["counts"]
PEERS = {
    name: part["counts"]
    for name, part in MEASURED["parts"].items()
    if "counts" in part and not name.startswith("writeahead_folder")
}


@pytest.mark.parametrize("name", PAGES)
def test_a_table_is_what_was_measured(name):
    shown = (ROOT / name).read_text().split(f"{BEGIN}\n")[1].split(END)[0]
    assert shown == PAGES[name](MEASURED), "python -m benchmarks.lost_reply.table"


def test_a_table_follows_what_was_measured():
    other = copy.deepcopy(MEASURED)
    other["parts"]["sidecar"]["counts"]["loss"] = 4321
    assert [line for line in table_of(other).splitlines() if line not in table_of(MEASURED)] == [
        line for line in table_of(other).splitlines() if "4,321" in line
    ]
    other["parts"]["sidecar"] = {"name": "hand-written sidecar file", "left_out": "it is gone"}
    assert "left out: it is gone" in table_of(other)


def test_the_rest_of_a_page_stays():
    page = with_table(f"before {BEGIN}\nold\n{END} after", "new\n")
    assert page == f"before {BEGIN}\nnew\n{END} after"


def test_a_page_without_the_marks_is_refused():
    with pytest.raises(ValueError, match=f"no {BEGIN} ... {END}"):
        with_table(f"{BEGIN} and no end", "")


def test_a_table_has_ten_rows_at_most():
    assert len(table_of(MEASURED).splitlines()) <= 2 + 10


def test_enough_was_played():
    assert pairs_of(MEASURED)["scenarios"] >= 10_000
    assert len(PEERS) == 7
    assert all(counts["scenarios"] >= 100 for counts in PEERS.values())


@pytest.mark.parametrize("counts", [OURS, pairs_of(MEASURED)], ids=["one", "two"])
def test_what_readme_says_of_writeahead(counts):
    wrong = ("duplicate", "loss", "overwritten", "stuck")
    assert [name for name in wrong if counts.get(name)] == []


def test_what_readme_says_of_the_others():
    """Each doubles an e-mail after a kill, and asks less often; most end more sessions right."""
    asks = {name: counts["asks"] / counts["scenarios"] for name, counts in PEERS.items()}
    assert all(counts["duplicate"] for counts in PEERS.values())
    assert max(asks.values()) < OURS["asks"] / OURS["scenarios"]
    ours = OURS["right"] / OURS["scenarios"]
    better = [name for name, counts in PEERS.items() if counts["right"] / counts["scenarios"] > ours]
    assert len(better) > len(PEERS) / 2
