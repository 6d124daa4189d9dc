"""What a session of three operations costs on S3, counted on the wire."""

from contextlib import closing

import pytest

from tests.support.reference_remote import ReferenceAdapter, serve
from tests.support.remotes import operations
from writeahead import RunPolicy, open_store, resume_session, write_back
from writeahead.errors import Applied, TransientError
from writeahead.model import RunStatus


@pytest.fixture
def store(s3_proxy, s3_bucket):
    return open_store(f"s3://{s3_bucket.name}/sessions?endpoint_url={s3_proxy.url}&region=us-east-1")


@pytest.fixture
def remote():
    with serve() as remote:
        yield remote


class LastDown(ReferenceAdapter):
    """Reaches everything but the last operation."""

    def _exchange(self, method, operation, headers, body):
        if operation.id == "3-create":
            raise TransientError("PUT /create: 503", applied=Applied.NO)
        return super()._exchange(method, operation, headers, body)


def run(store, adapter, **policy):
    return write_back(
        operations("create", "create", "create"),
        session_id="s1",
        store=store,
        adapter=adapter,
        policy=RunPolicy(wait_initial=0, wait_max=0, **policy),
    )


@pytest.mark.parametrize(("interval", "puts"), [(0, 5), (3600, 3)])
def test_the_happy_path_writes_and_never_reads(store, remote, s3_proxy, interval, puts):
    with closing(ReferenceAdapter(remote.url)) as adapter:
        assert run(store, adapter, journal_interval=interval).status is RunStatus.COMPLETED
    assert s3_proxy.count() == {"PUT": puts, "DELETE": 1}
    assert len(remote.requests) == 3


def test_a_resume_at_the_last_operation(store, remote, s3_proxy):
    with closing(LastDown(remote.url)) as adapter:
        assert run(store, adapter).status is RunStatus.RESUME_NEEDED
    s3_proxy.clear()
    remote.requests.clear()
    with closing(ReferenceAdapter(remote.url)) as adapter:
        report = resume_session("s1", store=store, adapter=adapter)
    assert report.status is RunStatus.COMPLETED
    assert s3_proxy.count() == {"LIST": 1, "GET": 2, "PUT": 2, "DELETE": 1}
    assert len(remote.requests) == 1


def test_nothing_is_sent_before_the_plan_is_durable(s3_bucket, s3_proxy, store, remote):
    seen = []

    def look_at_the_bucket(point):
        if point.startswith("before send"):
            seen.append((set(s3_bucket.keys()), len(remote.requests)))

    with closing(ReferenceAdapter(remote.url, look_at_the_bucket)) as adapter:
        run(store, adapter)
    held, requests = seen[0]
    assert requests == 0
    assert {"sessions/.open/s1", "sessions/s1/planned-writeback.json"} <= held
