"""What a row holds, compared with what a plan would write: see decision 10."""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from writeahead.adapters.dataverse.mapping.parties import MASKS
from writeahead.adapters.dataverse.mapping.payloads import Baseline, PartyWrite, RowWrite
from writeahead.adapters.dataverse.mapping.tables import Table
from writeahead.adapters.dataverse.webapi.client import DataverseClient, Row
from writeahead.adapters.dataverse.webapi.errors import PermanentDataverseError, TransientDataverseError
from writeahead.adapters.dataverse.webapi.names import BIND, guid_or_none, referenced_row
from writeahead.errors import Applied, ConflictError

__all__ = ["is_older", "require_own_content", "same_value"]

# How far the service's clock may be behind ours, as `RunPolicy.clock_skew` has it by default.
_CLOCK_SKEW = timedelta(seconds=5)
# A page of the service: "Query data using the Web API", learn.microsoft.com.
_MOST_PARTIES = 5000


def is_older(row: Row, table: Table, baseline: Baseline | None) -> bool:
    """Whether an earlier session under the same ids created a row that a create has found.

    A row that is no older than the plan is this plan's, whatever others have written into it since.
    One that does not say when it was created counts as older. A plan that does not say when it was
    made is believed, as ever. See docs/decisions/0010-same-id-other-content.md.
    """
    if baseline is None or baseline.planned_at is None:
        return False
    created = _moment(row.columns.get(table.created)) if table.created else None
    return created is None or created < baseline.planned_at - _CLOCK_SKEW


def require_own_content(
    client: DataverseClient, table: Table, write: RowWrite, baseline: Baseline | None
) -> None:
    """Read a row that is older than the plan, and require that it is what the plan would create.

    Args:
        client: Of the environment.
        table: Of the mapping.
        write: The row.
        baseline: What the service may make of its values; None in a plan of before that was kept.

    Raises:
        ConflictError: It has other content. It names columns, not values.
        TransientDataverseError: It could not be read now.
    """
    stored = baseline.stored if baseline else {}
    try:
        row = client.get_row(write.entity_set, write.address, None)
        other = _other_content(row.columns, table, write, stored) if row else []
        if row and write.parties:
            other += _other_parties(client, write)
    except TransientDataverseError as error:
        # This request was refused. An earlier one may have been applied, which is unknown now.
        error.applied = Applied.UNKNOWN
        raise
    except PermanentDataverseError:
        raise ConflictError(f"{write.where}: older than the plan, and its content can't be read") from None
    if other:
        raise ConflictError(
            f"{write.where}: an earlier session of this id created it with other content: {', '.join(other)}"
        )


def same_value(one: object, other: object, forms: Collection[object] = ()) -> bool:
    """Compare what is read from a column with what was written to it, or was read before.

    Dataverse has no empty texts, shows amounts with their decimals, moments in whole seconds of
    UTC, and dates without a time. Blanks around a text and the sort of its line ends don't count:
    forms remove the blanks ("Problems with leading and trailing blank spaces in CRM data",
    gonzaloruizcrm.blogspot.com), and no source says what the platform does.

    Args:
        one: What is read.
        other: What was written.
        forms: What else the service may make of that; a date is any moment of that day in UTC.
    """
    return _same(one, other) or any(_same(one, form) or _is_within(one, form) for form in forms)


def _is_within(value: object, day: object) -> bool:
    # The service shows UTC.
    moment = _moment(value)
    return moment is not None and not moment.utcoffset() and moment.date().isoformat() == day


def _same(one: object, other: object) -> bool:
    if {type(one), type(other)} <= {int, float}:
        return one == other
    if _is_empty(one) and _is_empty(other):
        return True
    if type(one) is type(other) and one == other:
        return True
    if isinstance(one, str) and isinstance(other, str) and _plain(one) == _plain(other):
        return True
    first, second = _moment(one), _moment(other)
    return first is not None and first == second


def _is_empty(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _plain(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n").strip()


def _other_parties(client: DataverseClient, write: RowWrite) -> list[str]:
    """The roles of an activity in which others take part than is planned.

    The service makes parties of its own, such as the owner, so only the roles that are planned are
    compared. Parties can be listed and nothing else: "activityparty EntityType",
    learn.microsoft.com.

    Raises: as `DataverseClient.query`.
    """
    found = client.query(
        "activityparties",
        select=["participationtypemask", "_partyid_value", "addressused"],
        where=f"_activityid_value eq {write.row_id}",
        top=_MOST_PARTIES,
    )
    other = []
    for role in dict.fromkeys(party.role for party in write.parties):
        wanted = [party for party in write.parties if party.role == role]
        held = [row.columns for row in found if row.columns["participationtypemask"] == MASKS[role]]
        if not _are(wanted, held):
            other.append(f"parties of role {role}")
    return other


def _are(wanted: Sequence[PartyWrite], held: Sequence[Mapping[str, object]]) -> bool:
    rest = list(held)
    for party in wanted:
        match = next((item for item in rest if _is_party(party, item)), None)
        if match is None:
            return False
        rest.remove(match)
    return not rest


def _is_party(party: PartyWrite, columns: Mapping[str, object]) -> bool:
    # The service may know a row for an address, and an address for a row.
    if party.address is not None:
        return party.address == columns["addressused"]
    return party.id == guid_or_none(columns["_partyid_value"])


def _moment(value: object) -> datetime | None:
    if not isinstance(value, str) or len(value) < len("2026-01-01"):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).replace(microsecond=0)


def _other_content(
    columns: Mapping[str, object],
    table: Table,
    write: RowWrite,
    stored: Mapping[str, Collection[object]],
) -> list[str]:
    """What of a row differs from what is planned, by name. Later sessions may have marked it."""
    leaves = table.leaves(write.columns)
    skipped = {*table.marker_columns(), *table.created_columns()}
    other = [
        name
        for name, value in leaves.items()
        if name not in skipped and not same_value(columns.get(name), value, stored.get(name, ()))
    ]
    # Where the mapping does not name the column of a lookup, any that points to the row will do.
    pointed_to = {guid_or_none(value) for name, value in columns.items() if name.endswith("_value")}
    for bind in (name for name in write.columns if name.endswith(BIND)):
        row = referenced_row(write.columns[bind])
        if not table.lookups_by_bind()[bind][0].column and row and row[1] not in pointed_to:
            other.append(bind.removesuffix(BIND))
    return sorted(other)
