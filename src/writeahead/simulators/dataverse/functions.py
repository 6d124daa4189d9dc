"""Functions, and the service document: reads that are about no row.

Sources, learn.microsoft.com (power-apps/developer/data-platform/webapi): "WhoAmI Function",
"RetrieveVersion Function", "RetrieveUserPrivileges Function", "Web API service documents".
"""

import sqlite3
from collections.abc import Mapping
from typing import Any

from writeahead.simulators.dataverse.messages import ApiRequest, ApiResponse, json_response
from writeahead.simulators.dataverse.odata import ODataError
from writeahead.simulators.dataverse.privileges import Privileges
from writeahead.simulators.dataverse.schema import Schema
from writeahead.simulators.dataverse.storage import APPLICATION_USER, setting
from writeahead.simulators.dataverse.understood import query_options

__all__ = ["USER_PRIVILEGES", "Functions"]

USER_PRIVILEGES = "/Microsoft.Dynamics.CRM.RetrieveUserPrivileges()"
"""The function bound to a user, as it stands in a URL."""

# As a real environment words it, with a build of 2025.
_VERSION = "9.2.25061.178"


class Functions:
    """Answers these reads.

    Args:
        connection: A connection to the database.
        schema: The tables there are.
        privileges: What the application may do.
    """

    def __init__(self, connection: sqlite3.Connection, schema: Schema, privileges: Privileges) -> None:
        self._connection = connection
        self._schema = schema
        self._privileges = privileges

    def service_document(self, request: ApiRequest) -> ApiResponse:
        """The names of all tables. Raises ODataError: the request is none for it."""
        names = [table.entity_set for table in self._schema]
        sets = [{"name": name, "kind": "EntitySet", "url": name} for name in names]
        return _answer(request, "", {"value": sets})

    def who_am_i(self, request: ApiRequest) -> ApiResponse:
        """Fixed ids. Raises ODataError: the request is none for it."""
        ids = {
            "BusinessUnitId": setting(self._connection, "business_unit_id"),
            "UserId": APPLICATION_USER,
            "OrganizationId": setting(self._connection, "organization_id"),
        }
        return _answer(request, "#Microsoft.Dynamics.CRM.WhoAmIResponse", ids)

    def version(self, request: ApiRequest) -> ApiResponse:
        """A fixed version. Raises ODataError: the request is none for it."""
        return _answer(request, "#Microsoft.Dynamics.CRM.RetrieveVersionResponse", {"Version": _VERSION})

    def user_privileges(self, request: ApiRequest) -> ApiResponse:
        """Those of the one application. Raises ODataError: the request is none for it."""
        held = {"RolePrivileges": self._privileges.held(self._schema)}
        return _answer(request, "#Microsoft.Dynamics.CRM.RetrieveUserPrivilegesResponse", held)


def _answer(request: ApiRequest, kind: str, content: Mapping[str, Any]) -> ApiResponse:
    if request.method != "GET":
        uri = f"{request.root}{request.path}"
        raise ODataError(404, "", f"No HTTP resource was found that matches the request URI '{uri}'.")
    query_options(request.query, ())
    return json_response(200, {"@odata.context": f"{request.root}$metadata{kind}", **content})
