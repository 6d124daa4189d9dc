"""A mapping that names a table the environment has not, with the readiness check off."""

import pytest

from tests.support.dataverse_backdoor import environ_of
from tests.support.worlds import names
from writeahead import write_back
from writeahead.adapters.dataverse import adapter_from_settings
from writeahead.model import BlockReason
from writeahead.simulators.dataverse import Settings, Simulator
from writeahead.stores.memory import MemoryStore

ROW = "c1000000-0000-4000-8000-000000000001"
MAPPING = """
[tables.person]
entity_set = "Contacts"
key = "contactid"
columns = ["lastname"]
guarded = ["donotphone"]
alternate_keys = [["emailaddress1"]]
"""


@pytest.mark.parametrize("codes", [True, False])
@pytest.mark.parametrize("kind", ["update_row", "upsert_row"])
@pytest.mark.parametrize("address", [{"row_id": ROW}, {"key": {"emailaddress1": "planted@example.com"}}])
def test_a_table_that_is_not_there_is_no_missing_row(tmp_path, codes, kind, address):
    path = tmp_path / "mapping.toml"
    path.write_text(MAPPING)
    store = MemoryStore()
    operation = {"kind": kind, "payload": {"table": "person", "columns": {"lastname": "x"}, **address}}
    chosen = Settings(empty_error_codes=not codes)
    with (
        Simulator(tmp_path / "crm.sqlite", settings=chosen) as sim,
        adapter_from_settings(environ=environ_of(sim), timeout=5, mapping=path) as adapter,
    ):
        report = write_back([operation], session_id="s", store=store, adapter=adapter)
        assert sim.requests(method="PATCH") == []
    assert report.block_reason is BlockReason.NOT_READY
    assert report.error == (
        f"operation 1-{kind}: the environment has no table Contacts: correct entity_set in [tables.person] of"
        " the mapping (upper and lower case count in names of entity sets)"
    )
    assert names(store) == []
