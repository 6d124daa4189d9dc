"""A store, a remote and a clock in memory, and the calls under test on them."""

import json

import pytest

from tests.support.remotes import Meets, Remote, RemoteAdapter, operations
from writeahead import RunPolicy, resume_session, write_back
from writeahead.errors import Unavailable
from writeahead.model import idempotency_key
from writeahead.protocol.journal import Journal
from writeahead.protocol.schema import Event
from writeahead.protocol.session import read_stored
from writeahead.stores.memory import MemoryStore
from writeahead.testing import FaultyStore, ManualClock, StoreFault


class World:
    """A store, a remote and a clock, and the calls under test on them."""

    def __init__(self, policy=None):
        self.store = MemoryStore()
        self.remote = Remote()
        self.adapter = RemoteAdapter(self.remote)
        self.clock = ManualClock()
        self.policy = policy or RunPolicy(journal_interval=0)
        self.stop = None

    def run(self, *kinds, session_id="s1", **more):
        return self.run_operations(operations(*kinds), session_id=session_id, **more)

    def run_operations(self, asked, session_id="s1", **more):
        return write_back(
            asked,
            session_id=session_id,
            store=self.store,
            adapter=self.adapter,
            policy=self.policy,
            clock=self.clock,
            stop=self.stop,
            **more,
        )

    def resume(self, session_id="s1", **more):
        return resume_session(
            session_id,
            store=self.store,
            adapter=self.adapter,
            policy=self.policy,
            clock=self.clock,
            stop=self.stop,
            **more,
        )

    def names(self):
        return [info.key for info in self.store.list()]

    def json(self, key):
        return json.loads(self.store.get(key).data)

    def effects_of(self, operation_id, session_id="s1"):
        return self.remote.count(idempotency_key(session_id, operation_id))


def refuse(store, part, error=Unavailable):
    """Let every put of a key with ``part`` in it raise an error; return what mends the store."""
    put = store._put

    def refusing(key, data, *, if_absent):
        if part in key:
            raise error(store.name, "put", key, "planted")
        return put(key, data, if_absent=if_absent)

    store._put = refusing
    return lambda: setattr(store, "_put", put)


def entry_of(world, number):
    return world.json(f"s1/journal/{number:06}.json")


def take_over(world):
    """Another owner appends the next entry, whatever it is."""
    session = read_stored(world.store, "s1")
    other = Journal.of(session, session.plan, world.store, world.clock, lease=600)
    other.append(Event.CLAIMED)


def planned_session(world, **more):
    world.remote.script["1-create"] = [Meets.UNAVAILABLE] * 4
    world.run("create", **more)
    return read_stored(world.store, "s1")


def held_by_another(world, kinds=("create", "update", "update")):
    """A session whose owner fell silent after its first receipt."""
    store = world.store = FaultyStore(world.store)
    store.fail(
        "create", "s1/journal/000002.json", StoreFault.crash("before", KeyboardInterrupt()), times=None
    )
    with pytest.raises(KeyboardInterrupt):
        world.run(*kinds)
    store.heal()


def names(store):
    return [info.key for info in store.list()]
