"""Dataverse's error codes, by what they mean for a request that is to be sent again.

A code is listed for what its name and message in "Web service error codes" (learn.microsoft.com)
say; the names stand beside the codes. Further sources, there:

- "Detect duplicate data using the Web API": 0x80040333, seen with status 500 and with 412.
- "Troubleshoot Dataverse bulk operation errors": 0x80044150 (SQL 1205, a deadlock), 0x80044151 (SQL
  time-out), 0x80040255 (the transaction was rolled back by a deadlock).
- "Service protection API limits": 0x80072321, 0x80072322, 0x80072326.
- "Reduce potential data loss using optimistic concurrency": 0x80060882, 0x8006088d.
- "Troubleshoot Dataverse Web API client errors": 0x8006088a, the URL names no table.
- "Set-AdminPowerAppEnvironmentRuntimeState": in administration mode only administrators and
  customizers get in. That this is answered by 403 is known from
  github.com/microsoft/PowerPlatform-DataverseServiceClient, issue 135, and not from a page.
- "Compose HTTP requests and handle errors": a plug-in's own refusal is 0x80040265, with status 400.
"""

from dataclasses import dataclass

from writeahead.errors import Applied

__all__ = [
    "ADMINISTRATION_WAIT",
    "DUPLICATE_KEY",
    "LATER",
    "NOT_FOUND",
    "NO_SUCH_TABLE",
    "REFUSALS",
    "THROTTLED",
    "VERSION_MISMATCH",
    "Later",
]

DUPLICATE_KEY = "0x80040237"
NO_SUCH_TABLE = "0x8006088a"
VERSION_MISMATCH = "0x80060882"

# Seconds. The service does not say when an administrator lets users in again, so this is our own
# choice: seldom enough to be no load, often enough that no session waits long. It is longer than a
# run lasts by default, so that the session is parked.
ADMINISTRATION_WAIT = 900.0

THROTTLED = {
    "0x80072321",  # ThrottlingTimeExceededError
    "0x80072322",  # ThrottlingBurstRequestLimitExceededError
    "0x80072326",  # ThrottlingConcurrencyLimitExceededError
}
NOT_FOUND = {
    "0x80040217",  # ObjectDoesNotExist
    "0x80060891",  # RecordNotFoundByEntityKey
}


@dataclass(frozen=True, slots=True)
class Later:
    """A refusal that passes.

    Attributes:
        detail: What is the matter, in our words.
        applied: Whether the request may have taken effect.
        wait: Seconds to wait if the service does not say; None for the run's own waits.
    """

    detail: str
    applied: Applied = Applied.UNKNOWN
    wait: float | None = None


def _closed(detail: str) -> Later:
    return Later(f"{detail}: an administrator must change that", Applied.NO, ADMINISTRATION_WAIT)


# Refused at the door, and for as long as an administrator leaves it so.
_CLOSED = {
    "0x8004a104": _closed("the environment is disabled"),  # OrganizationDisabled
    "0x8004a107": _closed("the environment's servers are disabled"),  # ScaleGroupDisabled
    "0x8004a113": _closed(  # UserDoesNotHaveAdminOnlyModePermissions
        "the environment is in administration mode"
    ),
    "0x8004b044": _closed("the environment is being moved"),  # OrganizationMigrationUnderway
}
_FULL = "the environment's storage is full: an administrator must make room"
_BUSY = Later("the database is busy")
_LOCKED = Later("another request holds a lock")
_IMPORT = Later("a solution is being imported, or another such operation runs")
_PLUGIN_TIMEOUT = Later("a plug-in took too long")
_NO_SANDBOX = Later("plug-ins can't run now")
_DEPENDENCY = Later("a service that Dataverse depends on did not answer")

# Transient whatever the status. A request may be several transactions (a plug-in after the write is
# one of its own), so what is not refused at the door may have taken effect.
LATER: dict[str, Later] = {
    **_CLOSED,
    # Storage is bought or freed, and nothing is wrong with the request.
    "0x80072325": Later(_FULL, wait=ADMINISTRATION_WAIT),  # AzureSqlDatabaseStorageQuotaExceededError
    "0x8004b057": Later(_FULL, wait=ADMINISTRATION_WAIT),  # CrmLiveAddOnAddStorageLimitReached
    "0x80044150": Later(""),  # unManagedidssqlerror
    "0x80044151": Later(""),  # unManagedidssqltimeouterror
    "0x80040255": Later(""),  # TransactionAborted
    "0x80072323": _BUSY,  # AzureSqlDatabaseResourceLimitExceededError
    "0x80072324": _BUSY,  # AzureSqlMaxConcurrentWorkersLimitExceededError
    "0x8004a001": _BUSY,  # CrmSqlGovernorDatabaseRequestDenied
    "0x80048542": _BUSY,  # VersionedRowNotFoundInTempDB
    "0x80073000": Later("the database could not be reached"),  # CrmSQLNetworkingError
    "0x80044339": _LOCKED,  # CouldNotObtainLockOnResource
    "0x8004ed47": _LOCKED,  # AppLockTimeout
    "0x80048543": _IMPORT,  # SolutionImportCauseTimeout
    "0x80071151": _IMPORT,  # SolutionConcurrencyFailure
    "0x80071154": _IMPORT,  # ConcurrentOperationFailure
    "0x80071155": _IMPORT,  # DuplicatedJobIdDueToConcurrency
    "0x80044171": _PLUGIN_TIMEOUT,  # SandboxClientPluginTimeout
    "0x80044172": _PLUGIN_TIMEOUT,  # SandboxHostPluginTimeout
    "0x80044173": _PLUGIN_TIMEOUT,  # SandboxWorkerPluginTimeout
    "0x80081111": _PLUGIN_TIMEOUT,  # SandboxWorkerPluginExecuteTimeout
    "0x8004418d": _NO_SANDBOX,  # SandboxWorkerNotAvailable
    "0x8004418e": _NO_SANDBOX,  # SandboxHostNotAvailable
    "0x80081116": _NO_SANDBOX,  # SandboxWorkerThrottleLimit
    "0x80060916": Later("the server is busy"),  # AsyncOperationTypeThrottled
    "0x80060917": Later("the server is busy"),  # AsyncOperationPostponedByExceptionCountThrottle
    "0x80072300": _DEPENDENCY,  # RetrieveUserLicenseUnexpectedError
    "0x80072301": _DEPENDENCY,  # RetrieveOrganizationInfoUnexpectedError
}

NO_SUCH_TABLE = "0x8006088a"
_PRIVILEGE = "the application lacks a privilege"
_VALUE = "a value is not allowed"

# Permanent whatever the status.
REFUSALS = {
    "0x80040333": "a duplicate detection rule refused it",  # DuplicateRecordsFound
    "0x80060892": "another row has the same alternate key",  # DuplicateRecordEntityKey
    "0x8006088d": "optimistic concurrency is not enabled for the table",  # OptimisticConcurrencyNotEnabled
    NO_SUCH_TABLE: "there is no such table; check the mapping",  # CrmHttpError
    "0x80040265": "the environment's own logic, such as a plug-in, refused it",  # IsvAborted
    "0x80048408": "this state and status do not go together",  # InvalidStateCodeStatusCode
    "0x80040220": _PRIVILEGE,  # PrivilegeDenied
    "0x80048306": _PRIVILEGE,  # unManagedIdsAccessDenied
    "0x8004f502": _PRIVILEGE,  # AttributePrivilegeCreateIsMissing
    "0x8004f507": _PRIVILEGE,  # AttributePermissionUpdateIsMissingDuringUpdate
    "0x80040203": _VALUE,  # InvalidArgument
    "0x80044331": "a text is too long",  # StringLengthTooLong
    "0x8004431a": _VALUE,  # PicklistValueOutOfRange
    "0x80044330": _VALUE,  # DecimalValueOutOfRange
}
