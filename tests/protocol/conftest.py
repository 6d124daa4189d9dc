"""A store, a remote with a kind of each class, its adapter and a clock, all in memory."""

import pytest

from tests.support.remotes import Remote, RemoteAdapter, operations
from tests.support.worlds import World
from writeahead import resume_session, write_back
from writeahead.stores.memory import MemoryStore
from writeahead.testing import ManualClock


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def remote():
    return Remote()


@pytest.fixture
def adapter(remote):
    return RemoteAdapter(remote)


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def run(store, adapter, clock):
    def call(*kinds):
        return write_back(operations(*kinds), session_id="s1", store=store, adapter=adapter, clock=clock)

    call.clock = clock
    return call


@pytest.fixture
def resume(store, adapter, clock):
    return lambda: resume_session("s1", store=store, adapter=adapter, clock=clock)


@pytest.fixture
def world():
    return World()
