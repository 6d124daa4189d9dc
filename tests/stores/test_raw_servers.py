"""The bare requests that find the truth about a server do find it."""

from tests.support.raw_servers import RACERS, S3, order, race, refuses
from tests.support.real_servers import Endpoint


def test_a_server_that_heeds_the_condition(s3_server, s3_bucket):
    raw = S3(Endpoint(s3_server), s3_bucket.name)
    assert refuses(raw, "a")
    assert race(raw, 3) == {1: 3}
    assert order(raw) == "byte order"


def test_a_server_that_ignores_the_condition(s3_proxy, s3_bucket):
    s3_proxy.ignore_conditions = True
    raw = S3(Endpoint(s3_proxy.url), s3_bucket.name)
    assert not refuses(raw, "a")
    assert race(raw, 3) == {RACERS: 3}


def test_a_server_that_lists_out_of_order(s3_server, s3_bucket):
    class Folders(S3):
        def keys(self, prefix, start_after=""):
            return sorted(super().keys(prefix, start_after), key=lambda key: key.replace("/", "\0"))

    assert order(Folders(Endpoint(s3_server), s3_bucket.name)) == "not in byte order"


def test_a_bucket_with_versions(s3_server, s3_bucket):
    raw = S3(Endpoint(s3_server), s3_bucket.name)
    assert raw.version_bucket() == 200
    assert refuses(raw, "a")
