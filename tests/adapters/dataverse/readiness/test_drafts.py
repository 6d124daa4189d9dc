"""What `discover` writes, `load_mapping` reads, whatever an environment's definitions are like."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlencode

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from writeahead.adapters.dataverse import DataverseClient, adapter_from_settings, load_mapping
from writeahead.adapters.dataverse.mapping.payloads import RowWrite
from writeahead.adapters.dataverse.readiness.discover import discover
from writeahead.adapters.dataverse.readiness.draft_names import labelled
from writeahead.errors import InvalidInput
from writeahead.model import KeyedOperation, idempotency_key
from writeahead.simulators.dataverse import DEFAULT_SCHEMA, Column, Kind, Settings, Simulator, Table
from writeahead.simulators.dataverse.metadata import Metadata
from writeahead.simulators.dataverse.schema import AlternateKey

TOKEN = "token-of-drafts"
KINDS = {"phone_call_activity": "wa_odd", "task": "wa_odd", "queue_status_update": "wa_odd"}


class Definitions:
    """A client that reads what the simulator serves, with types and labels that it would not."""

    def __init__(self, schema, types: Mapping[str, str | None]) -> None:
        self._metadata, self._types = Metadata(schema, "http://x/"), types

    def get_json(self, path, params):
        return self._odd(self._metadata.read(path.removeprefix("/"), urlencode(params)))

    def _odd(self, item):
        if isinstance(item, list):
            return [self._odd(one) for one in item]
        if not isinstance(item, dict):
            return item
        odd = {name: self._odd(value) for name, value in item.items()}
        if item.get("LogicalName") in self._types and "AttributeType" in item:
            odd["AttributeType"] = self._types[item["LogicalName"]]
        label = item.get("UserLocalizedLabel")
        if isinstance(label, dict) and not label["Label"]:
            odd["UserLocalizedLabel"] = None
        return odd


NAMES = st.one_of(
    st.sampled_from(["subject", "wa_status", "statecode", "wa_sessionid", "wa_operationid", "ownerid"]),
    st.from_regex(r"[a-z][a-z0-9_]{0,12}", fullmatch=True),
    st.text(st.characters(codec="utf-8", exclude_characters="'"), min_size=1, max_size=8),
)
LABELS = st.one_of(st.sampled_from(["", "a", "A", "a 2", "a_3", "\n#\x00"]), st.text(max_size=60))
OPTIONS = st.dictionaries(st.integers(-9, 9), LABELS, max_size=6)
# What EntitySetName and ReferencingEntityNavigationPropertyName are like; an empty one is null.
NAVIGATIONS = st.one_of(st.just(""), NAMES, st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,9}", fullmatch=True))
COLUMNS = st.one_of(
    st.builds(Column, kind=st.just(Kind.STRING), max_length=st.integers(1, 4000)),
    st.builds(Column, kind=st.sampled_from([Kind.PICKLIST, Kind.STATUS]), options=OPTIONS),
    st.builds(Column, kind=st.sampled_from([Kind.BOOLEAN, Kind.DATETIME, Kind.PARTYLIST, Kind.BIGINT])),
    st.builds(
        Column,
        kind=st.just(Kind.LOOKUP),
        navigation=st.dictionaries(st.sampled_from(["contacts", "gones", "Odd Set"]), NAVIGATIONS),
        required=st.sampled_from(["None", "ApplicationRequired", "a\nb"]),
    ),
)
TYPES = st.sampled_from(
    [None, "", "Virtual", "EntityName", "MultiSelectPicklist", "CalendarRules", "No\nsuch"]
)


FULL = os.environ.get("WRITEAHEAD_TESTS") == "full"


@st.composite
def environments(draw):
    columns = draw(st.dictionaries(NAMES, COLUMNS, max_size=12))
    names = [*columns, "wa_oddid"]
    keys = st.lists(st.sampled_from(names), max_size=3, unique=True).map(lambda key: AlternateKey(tuple(key)))
    table = Table(
        entity_set=draw(st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,12}", fullmatch=True)),
        logical_name="wa_odd",
        primary_key="wa_oddid",
        primary_name="wa_oddid",
        elastic=draw(st.booleans()),
        columns={**columns, "wa_oddid": Column(kind=Kind.UNIQUEIDENTIFIER)},
        keys=draw(st.dictionaries(st.just("key"), keys)),
    )
    types = draw(st.dictionaries(st.sampled_from(names), TYPES, max_size=3))
    return Definitions(DEFAULT_SCHEMA.with_tables(table), types), table


@settings(max_examples=200 if FULL else 20, deadline=None)
@given(environments(), st.booleans())
def test_a_draft_is_always_read(environment, as_kinds):
    definitions, table = environment
    text = discover(definitions, KINDS if as_kinds else {}, ["wa_odd", "wa_odd", "task"])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "draft.toml"
        path.write_text(text, "utf-8")
        found = load_mapping(path)
    assert found.tables["wa_odd"].entity_set == table.entity_set
    assert set(found.tables["wa_odd"].columns) <= set(table.columns)
    assert set(found.kinds) == (set(KINDS) if as_kinds else set())


@example({1: "a 3", 2: "a", 3: "a"})
@given(OPTIONS)
def test_no_option_is_lost_to_anothers_label(options):
    assert sorted(labelled(options).values()) == sorted(options)


@pytest.mark.parametrize("entity_set", ["wa odd", "1odds", "odds-x"])
def test_a_table_that_no_mapping_can_name_is_named(entity_set):
    table = Table(
        entity_set=entity_set,
        logical_name="wa_odd",
        primary_key="wa_oddid",
        primary_name="wa_oddid",
        columns={"wa_oddid": Column(kind=Kind.UNIQUEIDENTIFIER)},
    )
    with pytest.raises(InvalidInput, match="table wa_odd can be in no mapping: its entity set"):
        discover(Definitions(DEFAULT_SCHEMA.with_tables(table), {}), {}, ["wa_odd"])


def test_an_entity_set_with_capitals_is_found_mapped_and_written(tmp_path):
    table = Table(
        entity_set="wa_OddSets",
        logical_name="wa_odd",
        primary_key="wa_oddid",
        primary_name="wa_name",
        columns={
            "wa_oddid": Column(kind=Kind.UNIQUEIDENTIFIER),
            "wa_name": Column(kind=Kind.STRING, max_length=50),
            "wa_parent": Column(kind=Kind.LOOKUP, navigation={"wa_OddSets": "wa_Parent", "contacts": ""}),
            "createdon": Column(kind=Kind.DATETIME, creatable=False, updatable=False),
        },
        keys={"wa_key": AlternateKey(("wa_parent", "wa_name"))},
    )
    chosen = Settings(static_tokens=[TOKEN], schema=DEFAULT_SCHEMA.with_tables(table))
    with Simulator(tmp_path / "crm.sqlite", settings=chosen) as sim:
        parent = sim.seed("wa_OddSets", {"wa_name": "parent"})
        client = DataverseClient(sim.url, lambda: TOKEN, timeout=5)
        path = tmp_path / "draft.toml"
        path.write_text(discover(client, {}, ["wa_odd"]))
        client.close()
        declared = load_mapping(path).tables["wa_odd"]
        assert declared.lookups["wa_Parent"].entity_sets == ("wa_OddSets",)
        assert declared.alternate_keys == (("wa_name", "_wa_parent_value"),)
        payload = {
            "table": "wa_odd",
            "columns": {"wa_name": "child", "wa_Parent": {"table": "wa_odd", "id": parent}},
        }
        operation_id = "1-create_row"
        asked = KeyedOperation(
            session_id="s",
            id=operation_id,
            kind="create_row",
            key=idempotency_key("s", operation_id),
            payload=payload,
        )
        with adapter_from_settings(environ={}, url=sim.url, token=lambda: TOKEN, mapping=path) as adapter:
            [planned] = adapter.plan([asked])
            adapter.emit(planned)
        row = sim.row("wa_OddSets", asked.key)
        assert (row["wa_name"], row["_wa_parent_value"]) == ("child", parent)
        assert RowWrite.model_validate(planned.payload).entity_set == "wa_OddSets"
