"""Activity parties: who took part in an activity, and how.

They are rows of a table of their own, and can be listed there and nothing else ("activityparty
EntityType": GET, RetrieveMultiple only). They are made with their activity, by deep insert into
``<activity>_activity_parties`` ("Create related table rows in one operation", "Associate table rows
on update using collection-valued navigation property"). The columns ``from`` and ``to`` of an
activity are of the type PartyList in the definitions, and no properties of the Web API: users
report 400 for them (microsoft/PowerPlatform-DataverseServiceClient, issue 70).

The platform adds parties itself: the owner as 9, and what the activity is regarding as 8 ("These
are read only": "CRMActivity.SetActivityParties Method", learn.microsoft.com, of an old version;
users report the same of today's). All pages are on learn.microsoft.com.

No source was found for the answer to a role that an activity does not have, for a party that is
neither a row nor an address, and for parties in a PATCH of an activity that is there: 400, 400 and
501 are choices.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from writeahead.simulators.dataverse.odata import ErrorCode, ODataError
from writeahead.simulators.dataverse.query import Query
from writeahead.simulators.dataverse.schema import Kind, Schema, Table

__all__ = ["PARTICIPATION", "add_parties", "nested_parties", "remove_parties"]

_PARTIES = "activityparties"
# "ActivityParty table", section "Activity Party Types".
PARTICIPATION = {
    1: "Sender",
    2: "To Recipient",
    3: "CC Recipient",
    4: "BCC Recipient",
    5: "Required attendee",
    6: "Optional attendee",
    7: "Organizer",
    8: "Regarding",
    9: "Owner",
    10: "Resource",
    11: "Customer",
    12: "Chat Participant",
    13: "Related",
}
# The column of an activity that stands for each role, on the same page.
_COLUMNS = {
    "from": 1,
    "to": 2,
    "cc": 3,
    "bcc": 4,
    "requiredattendees": 5,
    "optionalattendees": 6,
    "organizer": 7,
    "resources": 10,
    "customers": 11,
    "customer": 11,
}
_OWN = {9: "_ownerid_value", 8: "_regardingobjectid_value"}


class _Row(Protocol):
    @property
    def table(self) -> Table: ...
    @property
    def id(self) -> str: ...
    @property
    def columns(self) -> Mapping[str, Any]: ...


class _Rows(Protocol):
    """What is needed of `Records`, which needs this module."""

    def find(self, table: Table, row_id: str, /) -> Any: ...
    def select(self, table: Table, query: Query, /) -> Iterable[Any]: ...
    def create(self, table: Table, key: None, payload: Mapping[str, Any], /) -> Any: ...
    def delete(self, record: Any, /) -> None: ...


def nested_parties(table: Table, payload: Mapping[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Take the parties out of an activity's payload, checked for their form.

    Raises:
        ODataError: 400: they are no list of objects, each with a participationtypemask.
    """
    rest = dict(payload)
    parties = rest.pop(table.party_collection, []) if table.party_collection else []
    if not isinstance(parties, list):
        raise _refused(ErrorCode.PAYLOAD_INVALID, f"'{table.party_collection}' is no collection.")
    for party in parties:
        mask = party.get("participationtypemask") if isinstance(party, dict) else None
        if not isinstance(mask, int) or isinstance(mask, bool):
            raise _refused(
                ErrorCode.PAYLOAD_INVALID,
                f"Each item of '{table.party_collection}' needs a 'participationtypemask' of type Edm.Int32.",
            )
    return rest, parties


def add_parties(records: _Rows, schema: Schema, activity: _Row, parties: Sequence[Mapping[str, Any]]) -> None:
    """Store the parties of an activity, and those that the platform adds.

    Raises:
        ODataError: 400 for a role that the activity does not have, or a party that does not fit;
            404 for a row that is not there.
    """
    table = schema.get(_PARTIES)
    if table is None or not activity.table.activity:
        return
    bind = {
        f"activityid_{activity.table.logical_name}@odata.bind": f"/{activity.table.entity_set}({activity.id})"
    }
    known = {
        _COLUMNS[name]
        for name, column in activity.table.columns.items()
        if column.kind is Kind.PARTYLIST and name in _COLUMNS
    }
    for party in parties:
        mask = party["participationtypemask"]
        if mask in PARTICIPATION and mask not in known:
            raise _refused(
                ErrorCode.INVALID_ARGUMENT,
                f"{activity.table.logical_name} has no activity parties of participation type {mask}.",
            )
        made = records.create(table, None, {**party, **bind})
        if not made.columns.get("_partyid_value") and not made.columns.get("addressused"):
            raise _refused(ErrorCode.INVALID_ARGUMENT, "Activity party object Id or type is missing")
    _add_own(records, schema, table, activity, bind)


def remove_parties(records: _Rows, schema: Schema, activity: _Row) -> None:
    """Remove the parties of an activity that is gone."""
    table = schema.get(_PARTIES)
    if table is not None and activity.table.activity:
        for party in _of(records, table, activity):
            records.delete(party)


def _add_own(records: _Rows, schema: Schema, table: Table, activity: _Row, bind: Mapping[str, str]) -> None:
    held = {party.columns["participationtypemask"]: party for party in _of(records, table, activity)}
    for mask, column in _OWN.items():
        wanted = activity.columns.get(column)
        found = held.get(mask)
        if found is not None and found.columns.get("_partyid_value") == wanted:
            continue
        if found is not None:
            records.delete(found)
        for target, navigation in table.columns["partyid"].navigation.items():
            other = schema.get(target)
            if wanted and other is not None and records.find(other, wanted) is not None:
                party = {"participationtypemask": mask, f"{navigation}@odata.bind": f"/{target}({wanted})"}
                records.create(table, None, {**party, **bind})


def _of(records: _Rows, table: Table, activity: _Row) -> list[Any]:
    where = "json_extract(body, '$.\"_activityid_value\"') = ?"
    return list(records.select(table, Query(where=where, parameters=(activity.id,))))


def _refused(code: ErrorCode, why: str) -> ODataError:
    return ODataError(400, code, f"Error identified in Payload provided by the user: {why}")
