"""The Dataverse adapter keeps the contract of adapters on the simulator, whose database is read around it."""

import pytest

from dataverse_place import running_dataverse
from writeahead.testing import AdapterContract


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with running_dataverse(tmp_path_factory.mktemp("crm")) as running:
        yield running


class TestDataverseOnTheSimulator(AdapterContract):
    """Everything that the kit has."""
