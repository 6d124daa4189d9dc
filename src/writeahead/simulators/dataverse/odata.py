"""Dataverse's error body, and the codes that the simulator sends.

Sources: "Compose HTTP requests and handle errors" and "Web service error codes"
(learn.microsoft.com, power-apps/developer/data-platform), "Troubleshoot Dataverse Web API client
errors" (learn.microsoft.com/troubleshoot/power-platform/dataverse).
"""

from enum import StrEnum

__all__ = ["ErrorCode", "ODataError", "error_body", "not_imitated"]


class ErrorCode(StrEnum):
    """The error codes of the simulator, named as in Microsoft's list."""

    NONE = "0x0"
    INVALID_ARGUMENT = "0x80040203"
    OBJECT_DOES_NOT_EXIST = "0x80040217"
    UNEXPECTED = "0x80040216"
    PRIVILEGE_DENIED = "0x80040220"
    DUPLICATE_RECORD = "0x80040237"
    DUPLICATE_RECORDS_FOUND = "0x80040333"
    PICKLIST_VALUE_OUT_OF_RANGE = "0x8004431a"
    STRING_LENGTH_TOO_LONG = "0x80044331"
    INVALID_STATE_CODE_STATUS_CODE = "0x80048408"
    METHOD_NOT_SUPPORTED = "0x80040800"
    PAYLOAD_INVALID = "0x80048d19"
    ODATA_QUERY_INVALID = "0x80060888"
    RESOURCE_NOT_FOUND = "0x8006088a"
    CONCURRENCY_VERSION_MISMATCH = "0x80060882"
    RECORD_NOT_FOUND_BY_KEY = "0x80060891"
    DUPLICATE_RECORD_ENTITY_KEY = "0x80060892"
    EXECUTION_TIME_EXCEEDED = "0x80072321"
    NUMBER_OF_REQUESTS_EXCEEDED = "0x80072322"
    NUMBER_OF_CONCURRENT_REQUESTS_EXCEEDED = "0x80072326"


class ODataError(Exception):
    """A refused request: the HTTP status, Dataverse's code and its message."""

    def __init__(self, status: int, code: str, message: str) -> None:
        self.status = status
        self.code = str(code)
        self.message = message
        super().__init__(message)


def error_body(code: str, message: str) -> dict[str, dict[str, str]]:
    """The JSON of a refused request."""
    return {"error": {"code": str(code), "message": message}}


def not_imitated(what: str) -> ODataError:
    """Return the error for what is not imitated, so that no test passes by chance."""
    return ODataError(501, ErrorCode.NONE, f"The simulator does not imitate {what}.")
