"""What every adapter promises about its remote, as tests that an adapter's own tests inherit."""

from writeahead.testing.adapter_contract.backdoor import RemoteBackdoor, RemoteRow
from writeahead.testing.adapter_contract.binding import Binding
from writeahead.testing.adapter_contract.concurrent_edits import ConcurrentEdits
from writeahead.testing.adapter_contract.crashes import Crashes
from writeahead.testing.adapter_contract.faults import Faults

__all__ = ["AdapterContract", "RemoteBackdoor", "RemoteRow"]


class AdapterContract(Faults, Crashes, ConcurrentEdits, Binding):
    """The promises of `Adapter`, tried over real HTTP against a real server.

    An adapter's tests subclass it, and define a fixture ``backdoor``::

        @pytest.fixture(scope="module")
        def backdoor(my_server):
            return MyCrmBackdoor(my_server)   # a RemoteBackdoor; all trials can share one

        class TestMyCrm(AdapterContract):
            pass

    Each trial is a session of its own with one operation of one kind, or with all provable kinds as
    one transaction where the adapter is a `TransactionalAdapter`. It is sent through an
    `HttpProxy`. Each of its exchanges meets each fault and each crash; then they end, and the
    session is resumed hours later. After that:

    - the remote has exactly one row (at most one for ``unprovable``) with the right content, and
      the receipt names it;
    - no operator was needed;
    - of a transaction the remote has all rows or none;
    - a session of the same id with other content is refused, or writes rows of its own;
    - a session that met its fault at planning, and has no plan, has written nothing, and goes on
      when it is run again;
    - no error said "surely not applied" of a request that the server had applied.

    Which request writes is found out in a session without faults, by looking at the remote's rows
    after each: an adapter may look before it writes.

    A test asks for a part only if the adapter has a kind of its replay classes: a remote of upserts
    alone needs no ``edit``, and one whose backdoor names no secrets needs no ``rotated``.

    Declare what else the remote can't have in ``impossible``, with the reason; its tests are then
    skipped. The parts are ``fork`` (the adapter in a process that is killed), ``late`` (a request
    that is applied after its session was resumed), ``transaction`` (which the remote lacks, though
    the adapter could), ``target`` (nothing tells one remote from another), ``wait`` (its
    Retry-After is about one row or one method only), and methods of
    `RemoteBackdoor`: ``snapshot``, ``edit``, ``unguarded`` (`edit` in a field that no operation
    writes), ``baseline``, ``remove``, ``take_key``, ``rotated`` and ``other_content``.
    """
