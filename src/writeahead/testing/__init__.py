"""Contract kits for stores and adapters, and wrappers and proxies that trace and fail on demand.

The kits are tests that a backend or an adapter inherits; they need pytest. They know the public
interfaces only: no backend, no adapter of this package.
"""

import pytest

# Before the import: so that a contract's failed assertion shows what it compared.
pytest.register_assert_rewrite("writeahead.testing.adapter_contract", "writeahead.testing.store_contract")

from writeahead.testing.adapter_contract import (  # noqa: E402 - see above
    AdapterContract,
    RemoteBackdoor,
    RemoteRow,
)
from writeahead.testing.clock import ManualClock  # noqa: E402 - see above
from writeahead.testing.decorators import (  # noqa: E402 - see above
    FaultyStore,
    StoreCall,
    StoreFault,
    TracingStore,
    WrapperStore,
)
from writeahead.testing.fault_injector import FaultInjector  # noqa: E402 - see above
from writeahead.testing.http_proxy import Fault, HttpProxy, SeenRequest  # noqa: E402 - see above
from writeahead.testing.store_contract import StoreBackdoor, StoreContract  # noqa: E402 - see above

__all__ = [
    "AdapterContract",
    "Fault",
    "FaultInjector",
    "FaultyStore",
    "HttpProxy",
    "ManualClock",
    "RemoteBackdoor",
    "RemoteRow",
    "SeenRequest",
    "StoreBackdoor",
    "StoreCall",
    "StoreContract",
    "StoreFault",
    "TracingStore",
    "WrapperStore",
]
