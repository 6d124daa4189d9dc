"""Who takes part in an activity: what the mapping approves, and how it is sent.

Parties are made with their activity, by deep insert into ``<activity>_activity_parties``; a party
that no row is known for has ``addressused`` instead of ``partyid``. Sources, learn.microsoft.com:
"ActivityParty table" (the roles, their numbers, and the column of an activity that stands for
each), "ActivityParty table reference", "Create related table rows in one operation", "Associate
table rows on update using collection-valued navigation property" (the form of a party).

The roles owner and regarding are left out: the platform makes those parties itself, from the
owner and the regarding lookup of the activity ("CRMActivity.SetActivityParties Method", of an old
version: they are read-only). So are those of Teams chats, which Teams makes.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from writeahead.adapters.dataverse.mapping.payloads import EntitySet, PartyRole, PartyWrite
from writeahead.adapters.dataverse.webapi.names import BIND, row_reference

__all__ = [
    "COLUMNS",
    "MASKS",
    "ApprovedParties",
    "DeclaredParties",
    "KindParties",
    "KindParty",
    "PartyTarget",
]

# participationtypemask.
MASKS: Mapping[PartyRole, int] = {
    "from": 1,
    "to": 2,
    "cc": 3,
    "bcc": 4,
    "required": 5,
    "optional": 6,
    "organizer": 7,
    "resource": 10,
    "customer": 11,
}
# The PartyList columns of activities, and the role of who is in them.
COLUMNS: Mapping[str, PartyRole] = {
    "from": "from",
    "to": "to",
    "cc": "cc",
    "bcc": "bcc",
    "requiredattendees": "required",
    "optionalattendees": "optional",
    "organizer": "organizer",
    "resources": "resource",
    "customers": "customer",
    "customer": "customer",
}
# "ActivityParty EntityType": the navigation property of a party is partyid_<logical name>.
_KNOWN = {
    "accounts": "partyid_account",
    "contacts": "partyid_contact",
    "knowledgearticles": "partyid_knowledgearticle",
    "leads": "partyid_lead",
    "queues": "partyid_queue",
    "systemusers": "partyid_systemuser",
}
_Navigation = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,199}$")]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class ApprovedParties:
    """Who may take part in the activities of one table.

    Attributes:
        navigation: The collection that they are inserted into.
        rows: Role to entity set to the navigation property of a party.
        addresses: The roles in which an address will do.
    """

    navigation: str
    rows: Mapping[PartyRole, Mapping[str, str]]
    addresses: frozenset[PartyRole]

    def approves(self, party: PartyWrite) -> bool:
        """Whether this one may take part."""
        if party.address is not None:
            return party.role in self.addresses
        return party.entity_set in self.rows.get(party.role, {})

    def body(self, parties: Iterable[PartyWrite]) -> dict[str, Any]:
        """What is sent for them, with the columns of their activity."""
        return {self.navigation: [self._item(party) for party in parties]}

    def _item(self, party: PartyWrite) -> dict[str, Any]:
        item: dict[str, Any] = {"participationtypemask": MASKS[party.role]}
        if party.entity_set is None or party.id is None:
            return {**item, "addressused": party.address}
        bind = self.rows[party.role][party.entity_set] + BIND
        return {**item, bind: row_reference(party.entity_set, party.id)}


class PartyTarget(_Model):
    """A table whose rows may be parties, and the navigation property that points to one."""

    entity_set: EntitySet
    navigation: _Navigation


def _with_navigation(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if value not in _KNOWN:
        known = ", ".join(_KNOWN)
        raise ValueError(
            f"{value[:80]!r} is none of {known}: give its entity_set and the navigation property of a party"
            " that points to it, partyid_<logical name>"
        )
    return {"entity_set": value, "navigation": _KNOWN[value]}


_Target = Annotated[PartyTarget, BeforeValidator(_with_navigation)]
_Targets: TypeAlias = tuple[_Target, ...]


class KindParty(_Model):
    """What a field of a named kind is.

    Attributes:
        role: In the activity.
        types: Type of row to its table.
        unresolved: Whether an address will do.
    """

    role: PartyRole
    types: dict[str, _Target] = Field(default_factory=dict)
    unresolved: bool = False


class KindParties(_Model):
    """``[kinds.<kind>.parties]``: the collection, and the fields that are parties."""

    navigation: _Navigation
    caller: KindParty | None = None
    callee: KindParty | None = None

    def by_field(self) -> dict[str, KindParty]:
        """The fields that are mapped."""
        fields = {"caller": self.caller, "callee": self.callee}
        return {name: party for name, party in fields.items() if party is not None}

    def approved(self) -> ApprovedParties:
        """Who may take part, by role."""
        rows: dict[PartyRole, dict[str, str]] = {}
        for party in self.by_field().values():
            found = rows.setdefault(party.role, {})
            found |= {target.entity_set: target.navigation for target in party.types.values()}
        addresses = (party.role for party in self.by_field().values() if party.unresolved)
        return ApprovedParties(self.navigation, rows, frozenset(addresses))


class DeclaredParties(_Model):
    """``[tables.<name>.parties]``: the collection, and who may be in each role.

    Attributes:
        navigation: The collection.
        unresolved: The roles in which an address will do.
    """

    navigation: _Navigation
    unresolved: tuple[PartyRole, ...] = ()
    from_: _Targets = Field(default=(), alias="from")
    to: _Targets = ()
    cc: _Targets = ()
    bcc: _Targets = ()
    required: _Targets = ()
    optional: _Targets = ()
    organizer: _Targets = ()
    resource: _Targets = ()
    customer: _Targets = ()

    def approved(self) -> ApprovedParties:
        """Who may take part, by role."""
        roles: dict[PartyRole, _Targets] = {
            role: getattr(self, "from_" if role == "from" else role) for role in MASKS
        }
        rows = {
            role: {target.entity_set: target.navigation for target in targets}
            for role, targets in roles.items()
            if targets
        }
        return ApprovedParties(self.navigation, rows, frozenset(self.unresolved))
