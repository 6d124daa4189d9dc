"""Fixtures of the tests of the Dataverse adapter."""

import json
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.dataverse_backdoor import environ_of
from tests.support.scripted_server import TOKEN, ScriptedServer
from writeahead import open_store, write_back
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
def mapping_text():
    """The mapping of a module's adapters; None for the default one. Modules have their own."""
    return


@pytest.fixture
def adapter_with(environ, mapping_text, tmp_path):
    """Makes adapters, of the module's mapping or of another one; they are closed at the end."""
    with ExitStack() as opened:

        def make(text=mapping_text, **options):
            path = None
            if text is not None:
                path = tmp_path / "mine.toml"
                path.write_text(text)
            made = adapter_from_settings(environ=environ, timeout=5, mapping=path, **options)
            return opened.enter_context(made)

        yield make


@pytest.fixture
def adapter(adapter_with):
    return adapter_with()


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path / "store"))


@pytest.fixture
def run(adapter_with, mapping_text, store):
    """Writes operations back as a session, with the readiness check unless a test wants none."""

    def write(*operations, text=mapping_text, session="s1", readiness="full", **options):
        adapter = adapter_with(text, readiness=readiness)
        return write_back(operations, session_id=session, store=store, adapter=adapter, **options)

    return write
