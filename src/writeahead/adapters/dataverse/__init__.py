"""Microsoft Dataverse over its Web API v9.2.

`adapter_from_settings` reads ``DATAVERSE_URL``, ``DATAVERSE_TENANT_ID``, ``DATAVERSE_CLIENT_ID``
and ``DATAVERSE_CLIENT_SECRET``, and, if set, ``DATAVERSE_AUTHORITY``, ``DATAVERSE_MAPPING``,
``DATAVERSE_TIMEOUT``, ``DATAVERSE_MAX_CONCURRENT``, ``DATAVERSE_MAX_REQUESTS``,
``DATAVERSE_READINESS``, ``DATAVERSE_REQUIRE_APPROVAL`` and ``DATAVERSE_SERVICE_TEXT``. Three rooms:
`webapi` sends one request, `mapping` turns payloads into writes, `readiness` checks writes against
the live environment. On top of them `baselines` reads what rows are like at planning, `contents`
compares rows with what is planned, `resends` says how often a refused write is sent again, `rows`
makes writes that can be repeated, `change_set` makes them in one transaction, `planning` puts the
stages of a plan together, and `adapter` has the kinds of operation. `loaded` holds rows against
what callers have loaded, `find_by` looks for rows that are there already, `row_owners` reads who
owns rows, `diagnosis` tells what a first run would meet, and `write_probe` proves the conditional
requests on a row of its own.
"""

from writeahead.adapters.dataverse.adapter import DataverseAdapter
from writeahead.adapters.dataverse.mapping.mapping import TableMapping
from writeahead.adapters.dataverse.mapping.mapping_file import load_mapping
from writeahead.adapters.dataverse.mapping.payloads import (
    PhoneCallActivity,
    QueueStatusUpdate,
    Reference,
    Task,
)
from writeahead.adapters.dataverse.mapping.row_baseline import RowBaseline
from writeahead.adapters.dataverse.mapping.row_payloads import (
    CompleteActivity,
    CreateRow,
    RowReference,
    UpdateRow,
    UpsertRow,
)
from writeahead.adapters.dataverse.settings import adapter_from_settings
from writeahead.adapters.dataverse.webapi.auth import ClientCredentials
from writeahead.adapters.dataverse.webapi.client import DataverseClient
from writeahead.adapters.dataverse.webapi.errors import PermanentDataverseError, TransientDataverseError
from writeahead.adapters.dataverse.webapi.protection import ServiceLimits, protection_of

__all__ = [
    "ClientCredentials",
    "CompleteActivity",
    "CreateRow",
    "DataverseAdapter",
    "DataverseClient",
    "PermanentDataverseError",
    "PhoneCallActivity",
    "QueueStatusUpdate",
    "Reference",
    "RowBaseline",
    "RowReference",
    "ServiceLimits",
    "TableMapping",
    "Task",
    "TransientDataverseError",
    "UpdateRow",
    "UpsertRow",
    "adapter_from_settings",
    "load_mapping",
    "protection_of",
]
