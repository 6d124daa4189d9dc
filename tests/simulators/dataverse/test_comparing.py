"""How texts compare in a filter and in an alternate key."""

import pytest


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Café O'Neil", True),
        ("CAFE o'neil", True),
        ("café O'NEIL", True),
        ("Cafe O'Neils", False),
        ("Cafe%", False),
        ("C_fe O'Neil", False),
        (" Café O'Neil", False),
    ],
)
def test_texts_compare_without_case_and_accents_and_know_no_wildcards(sim, http, text, found):
    row_id = sim.seed("accounts", {"accountnumber": "Café O'Neil"})
    quoted = text.replace("'", "''")
    reply = http.get("accounts", params={"$filter": f"accountnumber eq '{quoted}'", "$select": "accountid"})
    assert [row["accountid"] for row in reply.json()["value"]] == ([row_id] if found else [])
    # The index of an alternate key is in the same collation.
    reply = http.post("accounts", json={"accountnumber": text})
    assert reply.status_code == (412 if found else 204)
