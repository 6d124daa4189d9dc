"""A store, a remote that takes operations of each class, its adapter, and a clock, all in memory."""

import pytest

from tests.support.remotes import Remote, RemoteAdapter
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
