"""Fixtures that tests of several stores share."""

import pytest


@pytest.fixture(params=["s3fs", "obstore"])
def client(request) -> str:
    """The client libraries of a bucket, in turn."""
    return request.param
