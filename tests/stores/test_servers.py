"""Servers that are S3 in their own way: the kit for your own server, and `check`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.raw_servers import S3
from tests.support.real_servers import Endpoint
from writeahead.errors import Unsupported
from writeahead.stores.registry import open_store
from writeahead.testing.http_proxy import Answer, HttpProxy

KIT = Path(__file__).with_name("server_kit.py")
# A part of the kit, for its time: what meets conditions, errors, ETags and listings.
PART = "a_create_is or a_create_after or agree or absent_is or in_order or errors_say or check_proves"
PART += " or test_delete"


def kit(url, bucket, *arguments):
    environment = {**os.environ, "WRITEAHEAD_S3_URL": url, "WRITEAHEAD_S3_BUCKET": bucket}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(KIT), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        cwd=KIT.parents[2],
    )


SLOW = pytest.mark.skipif(
    os.environ.get("WRITEAHEAD_TESTS") != "full", reason="takes 20 seconds: `nox -s servers` runs it"
)


@pytest.mark.parametrize(
    "switch",
    [pytest.param(switch, marks=SLOW) for switch in ("bare_etags", "empty_errors", "no_if_match")],
)
def test_the_kit_holds_on_servers_of_many_kinds(s3_proxy, s3_bucket, switch):
    setattr(s3_proxy, switch, True)
    done = kit(s3_proxy.url, s3_bucket.name, "-k", PART)
    assert done.returncode == 0, done.stdout
    assert "TestServerThroughS3fs: 12 run, 12 passed; 0 impossible" in done.stdout
    assert "TestServerThroughObstore: 12 run, 12 passed; 0 impossible" in done.stdout
    assert s3_proxy.count()["PUT"] > 20
    assert s3_bucket.keys() == []


def test_the_kit_fails_on_a_server_that_ignores_conditions(s3_proxy, s3_bucket):
    s3_proxy.ignore_conditions = True
    done = kit(s3_proxy.url, s3_bucket.name, "-k", "check_proves or a_create_is_refused or a_forked")
    assert done.returncode == 1
    assert "TestServerThroughS3fs: 6 run, 1 passed, 5 failed; 0 impossible" in done.stdout
    assert "TestServerThroughObstore: 5 run, 5 failed; 1 impossible" in done.stdout
    assert "  1 fork declared impossible: obstore's threads" in done.stdout


def test_the_kit_says_what_it_needs():
    done = kit("", "")
    assert done.returncode == 2
    assert "set WRITEAHEAD_S3_URL and WRITEAHEAD_S3_BUCKET" in done.stdout + done.stderr


@pytest.mark.parametrize("client", ["s3fs", "obstore"])
@pytest.mark.parametrize("ignores", [False, True], ids=["heeds conditions", "ignores conditions"])
def test_the_command_line_says_what_was_tried_and_seen(s3_proxy, s3_bucket, client, ignores):
    s3_proxy.ignore_conditions = ignores
    url = f"s3://{s3_bucket.name}/p?client={client}&endpoint_url={s3_proxy.url}"
    command = [sys.executable, "-m", "writeahead", "check", "--store", url]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    promises = [line.split("  ")[1].split(":")[0] for line in lines[:-1]]
    assert promises == [
        "create",
        "read back",
        "settled create",
        "refused create",
        "overwrite",
        "case",
        "versions",
        "one winner",
        "list",
        "delete",
    ]
    broken = [line for line in lines if line.startswith("fails")]
    if ignores:
        assert done.returncode != 0
        assert [line.split()[1] for line in broken] == ["refused", "one"]
        assert "ignores If-None-Match" in broken[0]
        assert lines[-1].endswith("must not be used")
    else:
        assert (done.returncode, broken) == (0, [])
        assert lines[-1].endswith("safe to use")
    assert s3_bucket.keys() == []


@pytest.mark.parametrize("client", ["s3fs", "obstore"])
@pytest.mark.parametrize("ignores", [False, True], ids=["heeds conditions", "ignores conditions"])
def test_versions_are_told(s3_proxy, s3_bucket, client, ignores):
    """Through each client: Ceph ignores the condition in a bucket with versions or object lock."""
    assert S3(Endpoint(s3_proxy.url), s3_bucket.name).version_bucket() == 200
    s3_proxy.ignore_conditions = ignores
    check = open_store(f"s3://{s3_bucket.name}/p?client={client}&endpoint_url={s3_proxy.url}").check()
    seen = {result.promise: result.seen for result in check.results}
    assert seen["versions"].startswith("yes")
    assert ("in a bucket with versions or object lock" in seen["refused create"]) is ignores
    assert check.ok is not ignores


@pytest.mark.parametrize("client", ["s3fs", "obstore"])
def test_a_listing_out_of_order_is_unsupported(s3_server, s3_bucket, client):
    """As SeaweedFS lists: by folder."""
    for key in ("a-b", "a/b"):
        s3_bucket.write(f"p/{key}", b"1")

    class Folders(HttpProxy):
        def forward(self, method, target, headers, body):
            reply = super().forward(method, target, headers, body)
            if method != "GET" or "list-type" not in target:
                return reply
            first, *parts = reply.body.split(b"<Contents>")
            *listed, last = parts
            last, end = last.split(b"</Contents>")
            turned = [last + b"</Contents>", *listed]
            whole = first + b"".join(b"<Contents>" + part for part in turned) + end
            return Answer(reply.status, reply.headers, whole)

    with Folders(s3_server) as proxy:
        store = open_store(f"s3://{s3_bucket.name}/p?client={client}&endpoint_url={proxy.url}")
        with pytest.raises(Unsupported, match="order"):
            list(store.list())
