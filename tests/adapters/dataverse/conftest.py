"""Fixtures of the tests of the Dataverse adapter."""

import json
from pathlib import Path

import pytest

from tests.support.dataverse_backdoor import environ_of
from tests.support.scripted_server import TOKEN, ScriptedServer
from writeahead.adapters.dataverse import DataverseClient, adapter_from_settings
from writeahead.simulators.dataverse import Settings, Simulator

SESSIONS = Path(__file__).parents[3] / "examples" / "sessions"


@pytest.fixture
def server():
    with ScriptedServer() as running:
        yield running


@pytest.fixture
def client(server):
    made = DataverseClient(server.url, lambda: TOKEN, timeout=5)
    yield made
    made.close()


@pytest.fixture
def sessions():
    """The folder of the example sessions."""
    return SESSIONS


@pytest.fixture
def sim(tmp_path):
    """A simulator with the rows that the example sessions need."""
    with Simulator(
        tmp_path / "crm.sqlite", settings=Settings(client_secret="planted-client-secret")
    ) as running:
        for entity_set, rows in json.loads((SESSIONS / "seed.json").read_text()).items():
            for row in rows:
                running.seed(entity_set, row)
        yield running


@pytest.fixture
def environ(sim):
    """What an operator would have set for this simulator."""
    # What is asked of the table definitions would be in the way where requests are counted; the
    # tests of the gate switch it on.
    return environ_of(sim)


@pytest.fixture
def adapter(environ):
    with adapter_from_settings(environ=environ, timeout=5) as made:
        yield made
