"""The sections of a mapping file that say who may take part in an activity."""

import json
from importlib import resources

import pytest

from writeahead.adapters.dataverse import load_mapping
from writeahead.adapters.dataverse.mapping.payloads import PartyWrite, RowWrite
from writeahead.errors import InvalidInput

DEFAULT = (resources.files("writeahead.adapters.dataverse") / "default_mapping.toml").read_text()
ID = "00000000-0000-4000-8000-000000000001"
LETTER = """
[tables.letter]
entity_set = "letters"
key = "activityid"
columns = ["subject"]

[tables.letter.parties]
navigation = "letter_activity_parties"
from = ["systemusers", "queues"]
to = ["contacts", "leads", { entity_set = "new_guests", navigation = "partyid_new_guest" }]
bcc = []
unresolved = ["to", "bcc"]
"""


@pytest.fixture
def load(tmp_path):
    def read(text):
        path = tmp_path / "mine.toml"
        path.write_text(text)
        return load_mapping(path)

    return read


def party(role, entity_set=None, address=None):
    return PartyWrite(role=role, entity_set=entity_set, id=ID if entity_set else None, address=address)


@pytest.mark.parametrize(
    ("given", "approved"),
    [
        (party("from", "systemusers"), True),
        (party("to", "leads"), True),
        (party("to", "new_guests"), True),
        (party("to", address="x"), True),
        (party("bcc", address="x"), True),
        (party("from", "contacts"), False),
        (party("from", address="x"), False),
        (party("bcc", "contacts"), False),
        (party("cc", "contacts"), False),
        (party("cc", address="x"), False),
    ],
)
def test_who_may_take_part_is_told_by_role(load, given, approved):
    table = load(LETTER).tables["letter"]
    write = RowWrite(entity_set="letters", row_id=ID, columns={"subject": "x"}, parties=(given,))
    assert (table.problem_of(write) is None) is approved


def test_a_table_without_the_section_has_no_parties(load):
    table = load(LETTER[: LETTER.index("[tables.letter.parties]")]).tables["letter"]
    write = RowWrite(entity_set="letters", row_id=ID, columns={}, parties=(party("to", "contacts"),))
    assert table.problem_of(write) == "parties has one of role 'to' that is not approved"


def test_what_is_sent(load):
    table = load(LETTER).tables["letter"]
    parties = (party("to", "new_guests"), party("to", address="x"), party("from", "queues"))
    write = RowWrite(entity_set="letters", row_id=ID, columns={"subject": "x"}, parties=parties)
    assert table.body(write) == {
        "subject": "x",
        "letter_activity_parties": [
            {"participationtypemask": 2, "partyid_new_guest@odata.bind": f"/new_guests({ID})"},
            {"participationtypemask": 2, "addressused": "x"},
            {"participationtypemask": 1, "partyid_queue@odata.bind": f"/queues({ID})"},
        ],
    }
    alone = write.model_copy(update={"parties": ()})
    assert table.body(alone) == {"subject": "x"}


def test_a_plan_of_before_is_read_and_written_as_it_was():
    held = {"entity_set": "letters", "row_id": ID, "columns": {"subject": "x"}, "table": "tables.letter"}
    assert RowWrite.model_validate(held).model_dump(mode="json") == held
    parties = [{"role": "to", "entity_set": "contacts", "id": ID}, {"role": "to", "address": "x"}]
    with_parties = {**held, "parties": parties}
    assert json.loads(RowWrite.model_validate(with_parties).model_dump_json()) == with_parties


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            'navigation = "letter_activity_parties"\n',
            "",
            r"\[tables.letter.parties\] navigation: Field required",
        ),
        ('"leads"', '"new_leads"', "'new_leads' is none of accounts, contacts"),
        ("bcc = []", "owner = []", r"\[tables.letter.parties\] owner: Extra"),
        ("bcc = []", 'regarding = ["contacts"]', r"\[tables.letter.parties\] regarding: Extra"),
        ('unresolved = ["to", "bcc"]', "unresolved = true", r"\[tables.letter.parties\] unresolved"),
        ('"partyid_new_guest"', '"partyid_new_guest@odata.bind"', "navigation"),
    ],
)
def test_a_section_that_is_wrong_is_named(load, old, new, said):
    assert LETTER.replace(old, new) != LETTER
    with pytest.raises(InvalidInput, match=said):
        load(LETTER.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('role = "from"', 'role = "owner"', r"\[kinds.phone_call_activity.parties.caller\] role"),
        ('user = "systemusers"', 'user = "new_users"', "'new_users' is none of"),
        ("[kinds.phone_call_activity.parties.caller]", "[kinds.phone_call_activity.parties.boss]", "boss"),
        (
            "[kinds.phone_call_activity.parties",
            "[kinds.task.parties",
            "maps 'caller', which is no field of it",
        ),
    ],
)
def test_a_field_that_is_mapped_wrong_is_named(load, old, new, said):
    assert DEFAULT.replace(old, new) != DEFAULT
    with pytest.raises(InvalidInput, match=said):
        load(DEFAULT.replace(old, new))


def test_a_lead_may_be_called_where_the_mapping_has_it(load):
    text = DEFAULT.replace('role = "to"\ntypes = {', 'role = "to"\ntypes = { lead = "leads",')
    approved = load(text).kinds["phone_call_activity"].approved_parties()
    assert approved.approves(party("to", "leads"))
    assert not approved.approves(party("from", "leads"))
