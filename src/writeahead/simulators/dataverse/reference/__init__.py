"""Standard tables as Microsoft publishes them, one JSON file a table.

The files hold facts of the table reference: each column's type, required level, sizes and options,
and whether it is valid for create and for update. The page, its date and its version are in the
head of each file (``source``), and so is what was left out. "Money" and the like are Dataverse's
attribute types (AttributeTypeCode, learn.microsoft.com).
"""

import dataclasses
import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

from writeahead.simulators.dataverse.schema import Column, Kind, Table

__all__ = ["published_table"]

# An attribute type that is not here and is not the name of a kind is listed in definitions only. An
# image is of the type Virtual there ("Column definitions", learn.microsoft.com).
_KINDS = {kind.value[0]: kind for kind in Kind} | {
    "Customer": Kind.LOOKUP,
    "Owner": Kind.LOOKUP,
    "EntityName": Kind.STRING,
}
# The fields of a file by the fields of `Column`; one that Column does not have is passed over.
_FIELDS = {
    "required": "required",
    "create": "creatable",
    "update": "updatable",
    "length": "max_length",
    "minimum": "minimum",
    "maximum": "maximum",
    "default": "default",
    "precision": "precision",
    "precision_source": "precision_source",
    "format": "format",
    "behavior": "behavior",
}
_KNOWN = frozenset(field.name for field in dataclasses.fields(Column))
# The one EntityName that the Web API has as a property ("phonecall EntityType").
_ACTIVITY_TYPE = "activitytypecode"


def published_table(name: str) -> Table:
    """A standard table with its published columns.

    It has no navigation properties, since the table reference does not name them.

    Args:
        name: The logical name.
    """
    file = resources.files(__package__).joinpath(f"{name}.json")
    content = json.loads(file.read_text(encoding="utf-8"))
    columns = content["columns"]
    return Table(
        entity_set=content["entity_set"],
        logical_name=name,
        primary_key=content["primary_key"],
        primary_name=content["primary_name"],
        ownership=content["ownership"],
        states=_states(columns),
        columns={column: _column(column, facts) for column, facts in columns.items()},
    )


def _column(name: str, facts: Mapping[str, Any]) -> Column:
    type_ = facts["type"]
    kind = _KINDS.get(type_, Kind.OTHER)
    known = {_FIELDS[fact]: value for fact, value in facts.items() if _FIELDS.get(fact) in _KNOWN}
    if kind is not Kind.DATETIME:
        # Of a text or a number it says how apps show it.
        known.pop("format", None)
    if kind is Kind.OTHER:
        known |= {"creatable": False, "updatable": False}
    if kind is Kind.STATE:
        known["default"] = 0
    if kind is Kind.STATUS:
        # The default of a new row's state is the first of its values in the file.
        known["default"] = next(int(value) for value, state in facts["state"].items() if state == 0)
    return Column(
        kind=kind,
        **known,
        attribute_type=None if type_ in (kind.value[0], "Image") else type_,
        options={int(value): label for value, label in facts.get("options", {}).items()},
        targets=tuple(facts.get("targets", ())),
        exposed=kind is not Kind.PARTYLIST and (type_ != "EntityName" or name == _ACTIVITY_TYPE),
    )


def _states(columns: Mapping[str, Any]) -> dict[int, tuple[int, ...]]:
    """The status values of each state, the default first."""
    state_of = columns["statuscode"]["state"]
    return {
        int(state): (
            default,
            *(
                int(value)
                for value, other in state_of.items()
                if f"{other}" == state and int(value) != default
            ),
        )
        for state, default in columns["statecode"]["default_status"].items()
    }
