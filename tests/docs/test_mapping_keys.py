"""docs/dataverse-mapping.md lists every key that a mapping file may have, and no other."""

import re

from tests.support.doc_blocks import ROOT
from writeahead.adapters.dataverse.mapping.approval import APPROVAL_KEYS
from writeahead.adapters.dataverse.mapping.tables import DeclaredTable, KindTable

PAGE = (ROOT / "docs" / "dataverse-mapping.md").read_text()


def test_the_table_of_keys_is_whole():
    rows = PAGE.partition("## All keys")[2].partition("\n## ")[0].splitlines()
    named = {
        key for row in rows if row.startswith("| `") for key in re.findall(r"`(\w+)`", row.split("|")[1])
    }
    assert named == {*APPROVAL_KEYS, *KindTable.model_fields, *DeclaredTable.model_fields}
