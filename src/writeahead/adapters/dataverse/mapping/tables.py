"""What the mapping knows of a table: what may be written to it, and what is watched in it."""

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StringConstraints,
    field_validator,
)

from writeahead.adapters.dataverse.mapping.own_columns import OwnColumns
from writeahead.adapters.dataverse.mapping.parties import ApprovedParties, DeclaredParties, KindParties
from writeahead.adapters.dataverse.mapping.payloads import EntitySet, Guid, RowWrite
from writeahead.adapters.dataverse.webapi.names import BIND, Scalar, referenced_row

__all__ = [
    "NAVIGATION",
    "STATES",
    "Completion",
    "DeclaredTable",
    "DefaultOwner",
    "KindTable",
    "Lookup",
    "OptionSet",
    "Table",
    "Unknown",
    "are_some_of",
    "bind_of",
]

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,127}$")]
ReadName = Annotated[str, StringConstraints(pattern=r"^_?[a-z][a-z0-9_]{0,127}$")]
# Navigation properties are case-sensitive, and those of custom tables may have capitals.
NAVIGATION = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,199}")
Navigation = Annotated[str, StringConstraints(pattern=rf"^{NAVIGATION.pattern}$")]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


# What a completion writes, and watches together with what the mapping guards.
STATES = ("statecode", "statuscode")
# Of a column that the mapping does not name.
Unknown: TypeAlias = Literal["refuse", "drop"]


class OptionSet(_Model):
    """A choice column, and the value of each label."""

    column: Name
    values: dict[str, StrictInt | StrictBool] = Field(min_length=1)


class Lookup(_Model):
    """How a row of one type is pointed to.

    Attributes:
        navigation: The navigation property that is written.
        entity_set: Of the table that it points to.
        column: The lookup column that it sets, if that is read as well.
    """

    navigation: Navigation
    entity_set: EntitySet
    column: Name | None = None


class Completion(_Model):
    """The values that close a row, by label. Both columns have the same names in every table.

    Attributes:
        state: Of ``statecode``.
        status: Of ``statuscode``; Dataverse has a default for each state.
    """

    state: dict[str, StrictInt] = Field(min_length=1)
    status: dict[str, StrictInt] = Field(default_factory=dict)


class DefaultOwner(_Model):
    """The owner of new rows that name none."""

    type: Literal["user", "team"]
    id: Guid

    @property
    def entity_set(self) -> str:
        """Of the owner's table."""
        return "systemusers" if self.type == "user" else "teams"


class Table(OwnColumns):
    """What may be written to one table, and what is watched in it.

    Attributes:
        entity_set: Its name in URLs.
        key: The primary key column.
        guarded: Columns in the baseline; another user's edit of one of them is a conflict.
        preserve: Columns that are written only while the row has no value in them; they are
            guarded, too.
        completion: How its rows are closed, if `complete_activity` may do so.
        created: The column that says when a row was created; False for a table without one.
        default_owner: The owner of its new rows that name none, before the one of the whole
            mapping.
        unknown_columns: What becomes of a field or column that is given and not mapped; None for
            what the whole mapping says.
        owner_from: The field of a kind, or the navigation property of a declared table, whose row's
            owner also owns a new row that names none: see `owner_from`.
        shorten: Fields of a kind, or columns of a declared table, whose texts are cut to what the
            column holds: see `shorten`.
        find_by: Columns that together tell a row: where one has the values that a create would
            write, the create counts as done. A lookup column is named ``_<name>_value``.
    """

    entity_set: EntitySet
    key: Name
    created: Name | Literal[False] = "createdon"
    guarded: tuple[ReadName, ...] = ()
    preserve: tuple[Name, ...] = ()
    completion: Completion | None = None
    default_owner: DefaultOwner | None = None
    unknown_columns: Unknown | None = None
    owner_from: Navigation | None = None
    shorten: tuple[Name, ...] = ()
    find_by: tuple[ReadName, ...] = ()

    def written(self) -> list[str]:
        """Every column that may be written, the marker included; lookups are not among them."""
        return self.own_columns()

    def lookups_by_bind(self) -> dict[str, list[Lookup]]:
        """What ``<navigation property>@odata.bind`` may point to."""
        return {}

    def approved_parties(self) -> ApprovedParties | None:
        """Who may take part in its rows; None if the mapping has no parties there."""
        return None

    def body(self, write: RowWrite) -> dict[str, Any]:
        """What is sent to create a row: its columns, and its parties if it has any."""
        parties = self.approved_parties()
        return {**write.columns, **(parties.body(write.parties) if parties and write.parties else {})}

    def approves(self, name: str, value: Scalar) -> bool:
        """Whether this may be written."""
        lookups = self.lookups_by_bind().get(name)
        return _points_to(value, {x.entity_set for x in lookups}) if lookups else name in self.written()

    def created_columns(self) -> list[str]:
        """The column that says when a row was created, if there is one."""
        return [self.created] if self.created else []

    def searched(self, columns: Mapping[str, Scalar]) -> dict[str, Scalar] | None:
        """The values to search for before a create; None if there is nothing to search by."""
        leaves = self.leaves(columns)
        found = {name: leaves.get(name) for name in self.find_by}
        # The service has no empty texts: they are null, as is what is left out.
        return found if found and not {None, ""} & {*found.values()} else None

    def watches(self) -> bool:
        """Whether there are columns that no other user may change meanwhile."""
        return bool(self.guarded or self.preserve)

    def replaces_rows(self) -> bool:
        """Whether an upsert replaces the whole row: see `elastic`."""
        return False

    def leaves(self, columns: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """What a row reads like after a write of some columns, as far as that is known.

        Without the warnings: they are no content, and no evidence. An operator may clear them.
        """
        noted = self.warnings_to.column if self.warnings_to else None
        found = {name: value for name, value in columns.items() if not name.endswith(BIND) and name != noted}
        for name, lookups in self.lookups_by_bind().items():
            if name in columns and lookups[0].column:
                row = referenced_row(columns[name])
                found[f"_{lookups[0].column}_value"] = row[1] if row else None
        return found

    def entailed(self, columns: Mapping[str, Scalar]) -> set[str]:
        """The columns that the service itself changes by a write of others.

        A state has a status of its own by default: "UpdateStateValueRequest.DefaultStatusCode
        Property", learn.microsoft.com.
        """
        return {"statuscode"} if "statecode" in columns else set()

    def preserved(self) -> dict[str, list[str]]:
        """The columns to preserve as they are read, and the names that each is written by."""
        found = {name: [name] for name in self.preserve}
        for bind, lookups in self.lookups_by_bind().items():
            column = lookups[0].column
            if column in self.preserve:
                found.pop(column, None)
                found.setdefault(f"_{column}_value", []).append(bind)
        return found

    def baseline_columns(self, columns: Mapping[str, Scalar]) -> list[str]:
        """What is read for a write's baseline: what is watched, and what the write itself changes.

        Without a marker, the latter also has to tell whether the write took place.
        """
        return list(dict.fromkeys([*self.watched_columns(), *self.leaves(columns)]))

    def watched_columns(self) -> list[str]:
        """The columns that no other user may change, and the marker, which every write changes."""
        return [*self.guarded, *self.preserved(), *self.marker_columns()]

    def is_key(self, columns: Iterable[str]) -> bool:
        """Whether these columns together are a declared key; without one, only no columns are."""
        return not set(columns)

    def problem_of(self, write: RowWrite) -> str | None:
        """Say what in a planned write the mapping does not approve; None if it approves all."""
        if write.entity_set != self.entity_set:
            return "entity_set is not the mapped one"
        if not all(isinstance(write.columns.get(name), str) for name in self.marker_columns()):
            return "columns lacks the marker"
        if write.key is not None and not self.is_key(write.key):
            return "key is no alternate key that is approved"
        for name, value in write.columns.items():
            if not self.approves(name, value):
                # Cut, for a name out of an artifact may be anything.
                return f"columns has {name[:80]!r} with a value that is not approved"
        parties = self.approved_parties()
        for party in write.parties:
            if parties is None or not parties.approves(party):
                return f"parties has one of role {party.role!r} that is not approved"
        return None

    def completing(self) -> "KindTable | None":
        """The same table as `complete_activity` may write it; None if it may not."""
        if self.completion is None:
            return None
        options = {"state": OptionSet(column="statecode", values=dict(self.completion.state))}
        if self.completion.status:
            options["status"] = OptionSet(column="statuscode", values=dict(self.completion.status))
        return KindTable(
            entity_set=self.entity_set,
            key=self.key,
            marker=self.marker,
            guarded=tuple(dict.fromkeys([*STATES, *self.guarded])),
            options=options,
            warnings_to=self.warnings_to,
        )


class KindTable(Table):
    """The table of one of the named kinds, in an outbound-call service's words.

    Attributes:
        columns: Field to column.
        options: Field to choice column.
        lookups: Field to type of row to navigation property.
        parties: Field to role, if the rows are activities.
    """

    columns: dict[str, Name] = Field(default_factory=dict)
    options: dict[str, OptionSet] = Field(default_factory=dict)
    lookups: dict[str, dict[str, Lookup]] = Field(default_factory=dict)
    parties: KindParties | None = None

    def fields(self) -> list[str]:
        """Every mapped field, as often as it is mapped."""
        parties = self.parties.by_field() if self.parties else {}
        return [*self.columns, *self.options, *self.lookups, *parties]

    def approved_parties(self) -> ApprovedParties | None:
        """As `Table.approved_parties`."""
        return self.parties.approved() if self.parties else None

    def written(self) -> list[str]:
        """As `Table.written`."""
        options = (option.column for option in self.options.values())
        return [*self.columns.values(), *options, *self.own_columns()]

    def lookups_by_bind(self) -> dict[str, list[Lookup]]:
        """As `Table.lookups_by_bind`."""
        return _by_bind(lookup for types in self.lookups.values() for lookup in types.values())

    def approves(self, name: str, value: Scalar) -> bool:
        """As `Table.approves`; a choice takes the values of its labels only."""
        for option in self.options.values():
            if name == option.column:
                return value is None or _is_one_of(value, option.values)
        return super().approves(name, value)


class Navigable(_Model):
    """What a navigation property may point to, and the lookup column that it sets."""

    entity_sets: tuple[EntitySet, ...] = Field(min_length=1)
    column: Name | None = None


class DeclaredTable(Table):
    """A table that operations on any table may touch: ``[tables.<name>]``.

    Attributes:
        logical_name: Its own; the name in the mapping if it is left out.
        columns: Logical names; nothing else is ever written.
        options: Choice columns, and the value of each of their labels; they take no other value.
            A column of several options takes several of them, by value.
        lookups: Navigation property to the entity sets that it may point to.
        alternate_keys: The columns of each key that rows may be addressed by.
        phones: Columns that hold telephone numbers.
        elastic: It is an elastic table, and `upsert_row` may replace its rows.
        parties: Role to the entity sets of who may take part, if the rows are activities.
    """

    logical_name: Name | None = None
    columns: tuple[Name, ...] = ()
    options: dict[Name, dict[str, StrictInt | StrictBool]] = Field(default_factory=dict)
    lookups: dict[Navigation, Navigable] = Field(default_factory=dict)
    alternate_keys: tuple[Annotated[tuple[ReadName, ...], Field(min_length=1)], ...] = ()
    phones: tuple[Name, ...] = ()
    elastic: StrictBool = False
    parties: DeclaredParties | None = None

    def approved_parties(self) -> ApprovedParties | None:
        """As `Table.approved_parties`."""
        return self.parties.approved() if self.parties else None

    @field_validator("lookups", mode="before")
    @classmethod
    def _accept_lists(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {
            name: {"entity_sets": item} if isinstance(item, list) else item for name, item in value.items()
        }

    def replaces_rows(self) -> bool:
        """As `Table.replaces_rows`."""
        return self.elastic

    def written(self) -> list[str]:
        """As `Table.written`."""
        return [*self.columns, *self.options, *self.own_columns()]

    def approves(self, name: str, value: Scalar) -> bool:
        """As `Table.approves`; a choice takes the values of its labels only, or several of them."""
        if name in self.options:
            return value is None or are_some_of(value, self.options[name])
        return super().approves(name, value)

    def names(self, column: str) -> bool:
        """Whether this may be written to, with one value or another."""
        return column in self.written() or column in self.lookups

    def is_key(self, columns: Iterable[str]) -> bool:
        """As `Table.is_key`."""
        return set(columns) in map(set, self.alternate_keys)

    def lookups_by_bind(self) -> dict[str, list[Lookup]]:
        """As `Table.lookups_by_bind`."""
        return _by_bind(
            Lookup(navigation=navigation, entity_set=entity_set, column=item.column)
            for navigation, item in self.lookups.items()
            for entity_set in item.entity_sets
        )


def bind_of(lookup: Lookup) -> str:
    """The name that a lookup is written by."""
    return lookup.navigation + BIND


def _by_bind(lookups: Iterable[Lookup]) -> dict[str, list[Lookup]]:
    found: dict[str, list[Lookup]] = {}
    for lookup in lookups:
        found.setdefault(bind_of(lookup), []).append(lookup)
    return found


def _is_one_of(value: Scalar, labelled: Mapping[str, int | bool]) -> bool:
    return any(value == known and type(value) is type(known) for known in labelled.values())


def are_some_of(value: Scalar, labelled: Mapping[str, int | bool]) -> bool:
    """Whether this is the value of a label, or the text of several: "Choices columns"."""
    several = value.split(",") if isinstance(value, str) else []
    if not several:
        return _is_one_of(value, labelled)
    known = {str(number) for number in labelled.values() if type(number) is int}
    return all(number.strip() in known for number in several)


def _points_to(value: Scalar, entity_sets: set[str]) -> bool:
    row = referenced_row(value)
    return row is not None and row[0] in entity_sets
