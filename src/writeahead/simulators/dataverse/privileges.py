"""What the application may do: privileges by table, and the functions that tell of them.

Sources, learn.microsoft.com: "Security role and privilege reference" (prvCreate<table> and its
kin), "SecurityPrivilegeMetadata ComplexType", "RetrieveUserPrivileges Function", "RolePrivilege
ComplexType", "Web service error codes" (PrivilegeDenied). The wording of the message is that of
public reports.
"""

import uuid
from collections.abc import Collection, Iterable
from typing import Any

from writeahead.simulators.dataverse.odata import ErrorCode, ODataError
from writeahead.simulators.dataverse.schema import Table

__all__ = ["Privileges", "privileges_of"]

_KINDS = ("Create", "Read", "Write", "Delete", "Assign", "Share", "Append", "AppendTo")
_NAMESPACE = uuid.UUID("0f4a7b1e-6c5d-4a43-9a0b-3a6f5d1f2c90")


def privileges_of(table: Table) -> list[dict[str, Any]]:
    """The privileges of a table, as its definition lists them. All activities share theirs."""
    name = "Activity" if table.activity else table.logical_name.capitalize()
    return [
        {
            "Name": f"prv{kind}{name}",
            "PrivilegeId": _id(f"prv{kind}{name}"),
            "PrivilegeType": kind,
            "CanBeBasic": True,
            "CanBeLocal": True,
            "CanBeDeep": True,
            "CanBeGlobal": True,
        }
        for kind in _KINDS
    ]


class Privileges:
    """What the one application may do: everything but what is withheld.

    Args:
        withheld: Names of privileges, such as ``prvWriteContact``.
    """

    def __init__(self, withheld: Collection[str] = ()) -> None:
        self._withheld = frozenset(withheld)

    def require(self, table: Table, kind: str) -> None:
        """Refuse what the application may not do.

        Args:
            table: Of the row.
            kind: ``Create``, ``Read``, ``Write`` or ``Delete``.

        Raises:
            ODataError: 403.
        """
        name = next(item["Name"] for item in privileges_of(table) if item["PrivilegeType"] == kind)
        if name in self._withheld:
            raise ODataError(
                403, ErrorCode.PRIVILEGE_DENIED, f"Principal user is missing {name} privilege on the table."
            )

    def held(self, tables: Iterable[Table]) -> list[dict[str, Any]]:
        """What RetrieveUserPrivileges lists."""
        held = {item["Name"]: item for table in tables for item in privileges_of(table)}
        return [
            {"Depth": "Global", "PrivilegeId": item["PrivilegeId"], "PrivilegeName": name}
            for name, item in held.items()
            if name not in self._withheld
        ]


def _id(name: str) -> str:
    return str(uuid.uuid5(_NAMESPACE, name))
