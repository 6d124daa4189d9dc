"""Microsoft Dataverse over its Web API v9.2.

`adapter_from_settings` reads ``DATAVERSE_URL``, ``DATAVERSE_TENANT_ID``, ``DATAVERSE_CLIENT_ID`` and
``DATAVERSE_CLIENT_SECRET``, and, if set, ``DATAVERSE_AUTHORITY``, ``DATAVERSE_MAPPING`` and
``DATAVERSE_TIMEOUT``. To find your way: `client` speaks HTTP, `errors` sorts what comes back, `mapping` knows
the columns, `rows` makes writes that can be repeated, `adapter` puts them together.
"""

from writeahead.adapters.dataverse.adapter import DataverseAdapter
from writeahead.adapters.dataverse.auth import ClientCredentials
from writeahead.adapters.dataverse.client import DataverseClient
from writeahead.adapters.dataverse.errors import PermanentDataverseError, TransientDataverseError
from writeahead.adapters.dataverse.mapping import TableMapping, load_mapping
from writeahead.adapters.dataverse.payloads import PhoneCallActivity, QueueStatusUpdate, Reference, Task
from writeahead.adapters.dataverse.settings import adapter_from_settings

__all__ = [
    "ClientCredentials",
    "DataverseAdapter",
    "DataverseClient",
    "PermanentDataverseError",
    "PhoneCallActivity",
    "QueueStatusUpdate",
    "Reference",
    "TableMapping",
    "Task",
    "TransientDataverseError",
    "adapter_from_settings",
    "load_mapping",
]
