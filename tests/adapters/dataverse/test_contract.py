"""The Dataverse adapter keeps the adapter contract on the simulator and its database."""

import os
from typing import ClassVar

import pytest

from tests.support.dataverse_backdoor import running_dataverse
from writeahead.testing import AdapterContract

FULL = os.environ.get("WRITEAHEAD_TESTS") == "full"


@pytest.fixture(scope="module")
def backdoor(tmp_path_factory):
    with running_dataverse(tmp_path_factory.mktemp("crm")) as running:
        yield running


class TestDataverseOnTheSimulator(AdapterContract):
    impossible: ClassVar = {} if FULL else {"transaction": "left to WRITEAHEAD_TESTS=full"}
