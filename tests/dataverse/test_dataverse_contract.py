"""The Dataverse adapter keeps the contract of adapters on the simulator, whose database is read around it."""

from typing import ClassVar

import pytest

from dataverse_place import running_dataverse
from writeahead.testing import AdapterContract


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with running_dataverse(tmp_path_factory.mktemp("crm")) as running:
        yield running


class TestDataverseOnTheSimulator(AdapterContract):
    impossible: ClassVar = {"transaction": "the simulator has no $batch yet; SAP CAP has"}
