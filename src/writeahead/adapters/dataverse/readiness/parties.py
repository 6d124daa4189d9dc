"""What keeps an environment from taking the parties of an activity, by its table definitions.

A PartyList column such as ``from`` is in the definition of an activity, and is no property of the
Web API: its parties are inserted with the activity. So where an administrator requires one, a party
of its role satisfies it. The definition of the table of parties names the collection of each
activity (`activityid`) and what a party may be (`partyid`). Sources, learn.microsoft.com:
"ActivityParty table", "ActivityParty table reference", "OneToManyRelationshipMetadata".

Whether the row of a party is there is left to the service, as with any lookup. So is whether a
PartyList column takes rows of a table (its ``Targets``): no source says that this is enforced.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from writeahead.adapters.dataverse.mapping.free_texts import units
from writeahead.adapters.dataverse.mapping.parties import COLUMNS, ApprovedParties
from writeahead.adapters.dataverse.mapping.payloads import PartyRole, PartyWrite, RowWrite
from writeahead.adapters.dataverse.mapping.tables import KindTable, Table
from writeahead.adapters.dataverse.readiness.metadata import TableDefinition

__all__ = [
    "ACTIVITY_PARTIES",
    "ADDRESS",
    "NO_PARTIES",
    "PARTY_LIST",
    "PartyRequirements",
    "PartyTable",
    "missing_party",
    "party_gaps",
    "party_requirements",
]

ACTIVITY_PARTIES = "activityparties"
ADDRESS = "addressused"
PARTY_LIST = "PartyList"


@dataclass(frozen=True)
class PartyRequirements:
    """What the parties of one planned write need.

    Attributes:
        given: The parties.
        approved: What the mapping says of them; None if it has no parties.
        advice: What to give, or to map, for a role that is missing.
    """

    given: tuple[PartyWrite, ...] = ()
    approved: ApprovedParties | None = None
    advice: Mapping[PartyRole, str] = field(default_factory=dict)


NO_PARTIES = PartyRequirements()


@dataclass(frozen=True)
class PartyTable:
    """What definitions say of the parties of one table.

    Attributes:
        collection: The navigation property that they are inserted into.
        roles: Those that the table has columns for.
        targets: The logical name of each table whose rows may be parties, and the navigation
            property of a party that points to one.
        longest_address: In units of UTF-16; None if it was not read.
    """

    collection: str
    roles: tuple[PartyRole, ...]
    targets: Mapping[str, str]
    longest_address: int | None = None

    @classmethod
    def of(cls, table: TableDefinition, activity_party: TableDefinition | None) -> "PartyTable | None":
        """The parties of a table; None if its rows have none."""
        if activity_party is None:
            return None
        relations = activity_party.relations
        own = {item.target: item.collection for item in relations if item.column == "activityid"}
        lists = [COLUMNS[name] for name in COLUMNS if _is_party_list(name, table)]
        if table.logical_name not in own or not lists:
            return None
        targets = {item.target: item.navigation for item in relations if item.column == "partyid"}
        address = activity_party.columns.get(ADDRESS)
        longest = address.max_length if address is not None else None
        return cls(own[table.logical_name], tuple(dict.fromkeys(lists)), targets, longest)


def party_requirements(table: Table, write: RowWrite, section: str) -> PartyRequirements:
    """What the parties of a write need.

    Args:
        table: Of the mapping.
        write: What is planned.
        section: What the mapping calls the table.
    """
    advice = {role: _advice(table, section, role) for role in COLUMNS.values()}
    return PartyRequirements(write.parties, table.approved_parties(), advice)


def missing_party(column: str, parties: PartyRequirements) -> Iterator[str]:
    """Name a party that is required, unless one of its role is given, or none can be."""
    role = COLUMNS.get(column)
    if role is not None and role not in {party.role for party in parties.given}:
        yield f"column {column} requires a party: {parties.advice.get(role, f'give one of role {role}')}"


def party_gaps(
    parties: PartyRequirements,
    table: TableDefinition,
    activity_party: TableDefinition | None,
    names: Mapping[str, str | None],
) -> Iterator[str]:
    """Say what keeps parties from being made.

    Args:
        parties: Of a write.
        table: Its table's definition.
        activity_party: The definition of the table of parties; None if there is none.
        names: The logical names of the tables that parties point to, by entity set.
    """
    approved = parties.approved
    if not parties.given or approved is None:
        return
    found = PartyTable.of(table, activity_party)
    if found is None:
        yield "it has no parties: it is no activity with columns such as to; leave parties out"
        return
    if found.collection != approved.navigation:
        yield f"its parties are {found.collection}, not {approved.navigation}: correct navigation"
    for party in parties.given:
        if party.role not in found.roles:
            yield f"it has no parties of role {party.role}; there are {', '.join(found.roles)}"
        elif party.entity_set is None:
            yield from _address_gaps(party, found.longest_address)
        else:
            yield from _row_gaps(party.entity_set, approved.rows[party.role][party.entity_set], found, names)


def _row_gaps(
    entity_set: str, navigation: str, found: PartyTable, names: Mapping[str, str | None]
) -> Iterator[str]:
    target = names.get(entity_set)
    if target is None:
        yield f"there is no table {entity_set} for a party: check the mapping"
    elif found.targets.get(target) != navigation:
        yield f"a party can't be one of {entity_set} by {navigation}: check the mapping"


def _address_gaps(party: PartyWrite, longest: int | None) -> Iterator[str]:
    length = units(party.address or "")
    if longest is not None and length > longest:
        yield f"the address of a party of role {party.role} may have {longest} characters, and has {length}"


def _is_party_list(name: str, table: TableDefinition) -> bool:
    column = table.columns.get(name)
    return column is not None and column.type == PARTY_LIST


def _advice(table: Table, section: str, role: PartyRole) -> str:
    if isinstance(table, KindTable):
        mapped = table.parties.by_field() if table.parties else {}
        field_name = next((name for name, party in mapped.items() if party.role == role), None)
        if field_name is not None:
            return f"give {field_name}"
        return f"give caller or callee, and map it in [{section}.parties] with role = {role!r}"
    approved = table.approved_parties()
    if approved is not None and (approved.rows.get(role) or role in approved.addresses):
        return f"give parties one of role {role}"
    return f"give parties one of role {role}, and approve who may be one in [{section}.parties]"
