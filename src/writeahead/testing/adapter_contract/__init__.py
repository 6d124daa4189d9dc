"""What every adapter promises about its remote, as tests that an adapter's own tests inherit."""

from writeahead.testing.adapter_contract.backdoor import RemoteBackdoor, RemoteRow
from writeahead.testing.adapter_contract.concurrent_edits import ConcurrentEdits
from writeahead.testing.adapter_contract.crashes import Crashes
from writeahead.testing.adapter_contract.faults import Faults
from writeahead.testing.adapter_contract.plain import Plain

__all__ = ["AdapterContract", "RemoteBackdoor", "RemoteRow"]


class AdapterContract(Plain, Faults, Crashes, ConcurrentEdits):
    """The promises of `Adapter`, tried over real HTTP against a real server.

    An adapter's tests subclass it, and give a fixture ``place``::

        @pytest.fixture(scope="module")
        def place(my_server):
            return MyCrmPlace(my_server)      # an RemoteBackdoor; all trials can share one

        class TestMyCrm(AdapterContract):
            pass

    Each trial is a session of its own with one operation of one kind, or with all provable kinds as
    one transaction where the adapter is a `TransactionalAdapter`. It is sent through an
    `HttpProxy`. Faults and crashes are put on each of its exchanges; then they end, and the session
    is resumed hours later. After that there must be exactly one row (at most one for
    ``unprovable``) with the right content, the receipt must name it, and no person may have been
    needed. Of a transaction there must be all rows or none.

    What a remote can't have is declared, with the reason, in ``impossible``; its tests are then
    skipped. The parts are ``fork`` (the adapter in a process that is killed), ``late`` (a request
    that is applied after its session was resumed), ``transaction`` (which the remote lacks, though
    the adapter could), and methods of `RemoteBackdoor`: ``snapshot``, ``edit``, ``unguarded``
    (`edit` in a field that no operation writes), ``remove`` and ``take_key``.
    """
