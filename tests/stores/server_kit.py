"""The store contract on an S3 server that you name, by `nox -s servers`.

- ``WRITEAHEAD_S3_URL``: the endpoint, e.g. ``https://s3.eu-central-1.amazonaws.com``.
- ``WRITEAHEAD_S3_BUCKET``: a bucket of yours. Each test has a prefix of its own, and removes it
  again.
- ``WRITEAHEAD_S3_OPTIONS``: more options of the URL, e.g. ``addressing_style=path&region=auto``.
- ``WRITEAHEAD_S3_LISTED``: how many objects the test of a long listing makes, for each client;
  10,000 by default, and 5,000 at least: with fewer pages their sizes tell nothing of what is kept.
- Credentials as botocore finds them: ``AWS_ACCESS_KEY_ID`` and ``AWS_SECRET_ACCESS_KEY``, or a
  profile among the options.

The bytes are read and written around the stores by bare botocore. An endpoint without TLS is also
tried through a proxy that fails on demand.
"""

import os
import secrets
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar
from urllib.parse import parse_qsl, urlencode

import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from writeahead.stores import remote
from writeahead.stores.registry import open_store
from writeahead.testing import StoreContract

LISTED = int(os.environ.get("WRITEAHEAD_S3_LISTED", "10000"))
# An object's deletion by many at once is something that not every server has.
DELETED_AT_ONCE = 1000
NEEDED = ("WRITEAHEAD_S3_URL", "WRITEAHEAD_S3_BUCKET")
MISSING = [name for name in NEEDED if not os.environ.get(name)]
if MISSING:
    pytest.exit(f"set {' and '.join(MISSING)}; see {os.path.relpath(__file__)}", returncode=2)


class Prefix:
    """A new prefix of the bucket, seen through bare botocore."""

    def __init__(self, client):
        self.options = dict(parse_qsl(os.environ.get("WRITEAHEAD_S3_OPTIONS", "")))
        self.endpoint, self.bucket = os.environ["WRITEAHEAD_S3_URL"], os.environ["WRITEAHEAD_S3_BUCKET"]
        self.prefix = f"writeahead-kit-{secrets.token_hex(6)}/"
        self.client, self.server = client, self.endpoint
        self.url = self.url_at(self.endpoint)
        config = Config(
            s3={"addressing_style": self.options.get("addressing_style", "auto")},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            max_pool_connections=32,
        )
        session = botocore.session.Session(profile=self.options.get("profile"))
        self.raw = session.create_client(
            "s3", endpoint_url=self.endpoint, region_name=self.options.get("region"), config=config
        )

    def url_at(self, endpoint):
        query = urlencode({"client": self.client, "endpoint_url": endpoint, **self.options})
        return f"s3://{self.bucket}/{self.prefix}?{query}"

    def open(self):
        return open_store(self.url)

    def open_at(self, server):
        return open_store(self.url_at(server))

    def read(self, key):
        try:
            return self.raw.get_object(Bucket=self.bucket, Key=self.prefix + key)["Body"].read()
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                return None
            raise

    def write(self, key, data):
        self.raw.put_object(Bucket=self.bucket, Key=self.prefix + key, Body=data)

    def fill(self, prefix, count):
        with ThreadPoolExecutor(32) as pool:
            list(pool.map(lambda n: self.write(f"{prefix}{n:06d}", b"filled"), range(count)))

    def keys(self):
        pages = self.raw.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self.prefix)
        return [item["Key"].removeprefix(self.prefix) for page in pages for item in page.get("Contents", ())]

    def remove(self):
        keys = [{"Key": self.prefix + key} for key in self.keys()]
        for start in range(0, len(keys), DELETED_AT_ONCE):
            part = keys[start : start + DELETED_AT_ONCE]
            try:
                left = self.raw.delete_objects(Bucket=self.bucket, Delete={"Objects": part}).get("Errors", [])
            except ClientError:
                left = part
            with ThreadPoolExecutor(32) as pool:
                list(pool.map(lambda one: self.raw.delete_object(Bucket=self.bucket, Key=one["Key"]), left))
        self.raw.close()


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    # Most of the failures that are outlasted here come from our own proxy.
    monkeypatch.setattr(remote, "WAIT_INITIAL", 0.02)


NO_FILES = {"links": "there is no file system", "durability": "its server keeps the files"}
if os.environ["WRITEAHEAD_S3_URL"].startswith("https:"):
    NO_FILES["wire"] = "the proxy that fails on demand can't stand between a client and a server with TLS"


class TestServerThroughS3fs(StoreContract):
    client: ClassVar[str] = "s3fs"
    listed_keys: ClassVar[int] = LISTED
    impossible: ClassVar[Mapping[str, str]] = NO_FILES

    @pytest.fixture
    def backdoor(self):
        backdoor = Prefix(self.client)
        yield backdoor
        backdoor.remove()


class TestServerThroughObstore(TestServerThroughS3fs):
    client: ClassVar[str] = "obstore"
    impossible: ClassVar[Mapping[str, str]] = {
        **NO_FILES,
        "fork": "obstore's threads do not outlive a fork; a child is told so at once",
    }
