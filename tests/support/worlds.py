"""A store, a remote and a clock in memory, and the calls under test on them."""

import json

from tests.support.remotes import Remote, RemoteAdapter, operations
from writeahead import RunPolicy, resume_session, write_back
from writeahead.model import idempotency_key
from writeahead.stores.memory import MemoryStore
from writeahead.testing import ManualClock


class World:
    """A store, a remote and a clock, and the calls under test on them."""

    def __init__(self, policy=None):
        self.store = MemoryStore()
        self.remote = Remote()
        self.adapter = RemoteAdapter(self.remote)
        self.clock = ManualClock()
        self.policy = policy or RunPolicy()
        self.stop = None

    def run(self, *kinds, session_id="s1", **more):
        return write_back(
            operations(*kinds),
            session_id=session_id,
            store=self.store,
            adapter=self.adapter,
            policy=self.policy,
            clock=self.clock,
            stop=self.stop,
            **more,
        )

    def resume(self, session_id="s1"):
        return resume_session(
            session_id,
            store=self.store,
            adapter=self.adapter,
            policy=self.policy,
            clock=self.clock,
            stop=self.stop,
        )

    def names(self):
        return [info.key for info in self.store.list()]

    def json(self, key):
        return json.loads(self.store.get(key).data)

    def effects_of(self, operation_id, session_id="s1"):
        return self.remote.count(idempotency_key(session_id, operation_id))
