"""Pages of rows and counts, as a plain client meets them."""

import contextlib
import sqlite3

import httpx
import pytest

from writeahead.simulators.dataverse import Settings, Simulator

TOKEN = "token-of-the-tests"


def prefer(size):
    return {"Prefer": f"odata.maxpagesize={size}"}


@pytest.fixture
def rows(sim):
    return [sim.seed("tasks", {"subject": f"{number}", "percentcomplete": number % 2}) for number in range(5)]


def walk(http, path, size, between=lambda: None):
    """The subjects of each page."""
    pages, link = [], path
    while link:
        reply = http.get(link, headers=prefer(size))
        assert reply.headers["preference-applied"] == f"odata.maxpagesize={size}"
        pages.append([row["subject"] for row in reply.json()["value"]])
        link = reply.json().get("@odata.nextLink")
        between()
    return pages


def test_a_walk_over_pages_meets_each_row_once(http, rows):
    assert walk(http, "tasks?$select=subject&$orderby=subject", 2) == [["0", "1"], ["2", "3"], ["4"]]
    assert walk(http, "tasks?$orderby=subject desc", 5) == [["4", "3", "2", "1", "0"]]
    query = "tasks?$filter=percentcomplete eq 0&$orderby=percentcomplete,subject"
    assert walk(http, query, 1) == [["0"], ["2"], ["4"]]


def test_rows_that_come_and_go_meanwhile(sim, http, rows):
    def between():
        sim.seed("tasks", {"subject": "!"})

    pages = walk(http, "tasks?$orderby=subject", 2, between)
    assert [subject for page in pages for subject in page] == ["0", "1", "2", "3", "4"]
    query = "tasks?$filter=percentcomplete eq 0&$orderby=subject"
    for row in [row for row in sim.rows("tasks") if row["subject"] == "!"]:
        sim.delete("tasks", row["activityid"])
    first = http.get(query, headers=prefer(2)).json()
    # The first page's first row goes, and the second page goes on where it would have.
    sim.delete("tasks", first["value"][0]["activityid"])
    second = http.get(first["@odata.nextLink"], headers=prefer(2)).json()
    assert [row["subject"] for row in (*first["value"], *second["value"])] == ["0", "2", "4"]


def test_top_is_ignored_beside_the_preference(http, rows):
    assert len(walk(http, "tasks?$top=1", 2)) == 3
    assert len(http.get("tasks?$top=1").json()["value"]) == 1
    link = http.get("tasks?$top=1", headers=prefer(2)).json()["@odata.nextLink"]
    assert len(http.get(link).json()["value"]) == 3


def test_a_page_has_no_more_rows_than_the_service_allows(tmp_path):
    settings = Settings(static_tokens=[TOKEN], page_size=2)
    with Simulator(tmp_path / "small.sqlite", settings=settings) as sim:
        for number in range(3):
            sim.seed("tasks", {"subject": f"{number}"})
        with httpx.Client(base_url=sim.api_url, headers={"Authorization": f"Bearer {TOKEN}"}) as http:
            for headers in ({}, prefer(500)):
                first = http.get("tasks", headers=headers).json()
                assert len(first["value"]) == 2
                assert len(http.get(first["@odata.nextLink"], headers=headers).json()["value"]) == 1


def test_five_thousand_rows_are_the_most_of_a_page_and_of_a_count(sim, http):
    with contextlib.closing(sqlite3.connect(sim.path)) as connection, connection:
        connection.executemany(
            "INSERT INTO rows VALUES ('tasks', ?, 1, '{}')",
            [(f"00000000-0000-4000-8000-{number:012}",) for number in range(5001)],
        )
    found = http.get("tasks?$select=activityid&$count=true", headers=prefer(6000)).json()
    assert (len(found["value"]), found["@odata.count"]) == (5000, 5000)
    assert len(http.get(found["@odata.nextLink"]).json()["value"]) == 1
    assert http.get("tasks/$count").text == "5000"


def test_a_token_that_is_none(http, rows):
    assert http.get("tasks?$skiptoken=5").status_code == 400
    link = http.get("tasks", headers=prefer(2)).json()["@odata.nextLink"]
    assert http.get(link.replace("pagenumber", "number")).status_code == 400


def test_counts(http, rows):
    listed = http.get("tasks?$count=true&$filter=percentcomplete eq 0", headers=prefer(1)).json()
    assert (listed["@odata.count"], len(listed["value"])) == (3, 1)
    reply = http.get("tasks/$count")
    assert (reply.text, reply.headers["content-type"].partition(";")[0]) == ("5", "text/plain")
    assert http.get("tasks/$count?$filter=percentcomplete eq 1").text == "2"
    assert http.post("tasks/$count", json={}).status_code == 405
    assert http.get("tasks?$count=yes").status_code == 400
