"""A Dataverse Web API v9.2 on loopback, on one SQLite file, with faults on demand.

This room knows the Web API's requests, rows, rules, tokens and limits. It does not know the
adapter: both were written from Microsoft's pages, so that each tests the other. It imports nothing
of writeahead but its errors and the check for a missing extra.

In this process::

    with Simulator("crm.sqlite") as sim:
        queue = sim.seed("wa_callqueues", {"wa_name": "Ada", "wa_phonenumber": "+4930123456"})
        sim.faults.add("status", method="PATCH", path="tasks(*", status=503, times=4)
        ...                             # requests to sim.url with a token from sim.token_url
        assert sim.count("tasks") == 1
        assert [r.status for r in sim.requests(method="PATCH", path="tasks*")] == [503] * 4 + [204]

As a process of its own: ``serve("crm.sqlite", 8080, on_ready=print)``, until SIGTERM or SIGINT;
from anywhere, ``SimulatorDatabase("crm.sqlite")`` reads and changes the same file, also when no
server runs.

Names here:

- `Simulator(db_path, port=0, *, settings=None)`: ``start() stop() url api_url token_url port
  issue_token() faults settings``, a context manager, and everything of
- `SimulatorDatabase(path, schema=DEFAULT_SCHEMA)`: ``rows(set) row(set, id) count(set)
  requests(method=, path=, after=, applied=) last_sequence() seed(set, columns) edit(set, id,
  columns) delete(set, id)``. ``edit`` and ``delete`` act as another user who works at the same
  time.
- `serve(db_path, port=0, *, settings=None, faults=None, on_ready=None)`.
- `Settings(tenant_id=, client_id=, client_secret=, token_lifetime=, static_tokens=,
  empty_error_codes=, batch_errors=, limits=, plugin_tables=, duplicate_rules=,
  withheld_privileges=, degree_of_parallelism=, page_size=, schema=)`.
- `ServiceLimits(requests=6000, window=300, execution=1200, concurrent=52, penalty=,
  concurrent_wait=, clock=)`: when requests are refused with 429; `Settings` has none by default.
- `BatchErrors`: ``STATUS OK NESTED BARE``, the answer to a batch in which a request fails.
- `Faults`: ``add(action, **fields) arm(fault) remove(number) clear() pending()``, with the fields
  of `Fault`; over HTTP ``POST /_simulator/faults`` takes one as JSON, ``GET`` lists them,
  ``DELETE`` disarms them all.
- `Edit(row=, columns=)`: what another user does before or after a request, for ``edit_before`` and
  ``edit_after`` of a fault.
- `LoggedRequest`: a line of the request log.
- `DEFAULT_SCHEMA`, `Schema`, `Table`, `Column`, `Kind`: which tables and columns there are
  (`writeahead.simulators.dataverse.tables`), and how to describe more.
- `APPLICATION_USER`, `HUMAN_USER`: the two systemusers that a new database holds.

What it imitates, with sources, and what it does not: ``docs/simulator.md``. It needs starlette and
uvicorn (``pip install "writeahead[simulator]"``) to be started, not to be imported.
"""

from writeahead.simulators.dataverse.batch import BatchErrors
from writeahead.simulators.dataverse.editor import Edit
from writeahead.simulators.dataverse.faults import Fault, FaultAction, Faults
from writeahead.simulators.dataverse.inspection import LoggedRequest, SimulatorDatabase
from writeahead.simulators.dataverse.protection import ServiceLimits
from writeahead.simulators.dataverse.run import Simulator, serve
from writeahead.simulators.dataverse.schema import Column, Kind, Schema, Table
from writeahead.simulators.dataverse.settings import Settings
from writeahead.simulators.dataverse.storage import APPLICATION_USER, HUMAN_USER
from writeahead.simulators.dataverse.tables import DEFAULT_SCHEMA

__all__ = [
    "APPLICATION_USER",
    "DEFAULT_SCHEMA",
    "HUMAN_USER",
    "BatchErrors",
    "Column",
    "Edit",
    "Fault",
    "FaultAction",
    "Faults",
    "Kind",
    "LoggedRequest",
    "Schema",
    "ServiceLimits",
    "Settings",
    "Simulator",
    "SimulatorDatabase",
    "Table",
    "serve",
]
