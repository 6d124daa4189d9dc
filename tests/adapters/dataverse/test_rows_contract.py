"""Operations on any table keep the adapter contract: minutes, for WRITEAHEAD_TESTS=full."""

import os
from typing import ClassVar

import pytest

from tests.support.dataverse_backdoor import running_any_table
from writeahead.testing import AdapterContract


@pytest.fixture(scope="module")
def backdoor(tmp_path_factory):
    with running_any_table(tmp_path_factory.mktemp("crm")) as running:
        yield running


@pytest.mark.skipif(os.environ.get("WRITEAHEAD_TESTS") != "full", reason="takes minutes")
class TestAnyTableOnTheSimulator(AdapterContract):
    impossible: ClassVar = {
        "transaction": "what the service calls a row that is upserted by an alternate key is not known in one"
    }
