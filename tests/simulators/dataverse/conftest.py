"""A running simulator, and a plain HTTP client that knows nothing of writeahead."""

import httpx
import pytest

from writeahead.simulators.dataverse import Settings, Simulator

TOKEN = "token-of-the-tests"


@pytest.fixture
def sim(tmp_path):
    with Simulator(tmp_path / "crm.sqlite", settings=Settings(static_tokens=[TOKEN])) as running:
        yield running


@pytest.fixture
def http(sim):
    with httpx.Client(base_url=sim.api_url, headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        yield client
