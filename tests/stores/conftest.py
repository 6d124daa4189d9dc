"""Fixtures that tests of several stores share."""

import pytest

from tests.support import s3_models
from writeahead.stores import remote


@pytest.fixture(scope="session", autouse=True)
def _models_are_parsed_once() -> None:
    s3_models.parse_once()


@pytest.fixture(params=["s3fs", "obstore"])
def client(request) -> str:
    """The client libraries of a bucket, in turn."""
    return request.param


@pytest.fixture
def short_waits(monkeypatch) -> None:
    """Failures of a server are outlasted at once."""
    monkeypatch.setattr(remote, "WAIT_INITIAL", 0.001)
