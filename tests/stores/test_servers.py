"""Servers that are S3 in their own way: the kit for your own server, and `check`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("switch", ["empty_errors", "bare_etags", "no_if_match"])
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
        "one winner",
        "list",
        "delete",
    ]
    broken = [line for line in lines if line.startswith("fails")]
    if ignores:
        assert done.returncode != 0
        assert [line.split()[1] for line in broken] == ["refused", "one"]
        assert "ignores If-None-Match" in broken[0]
        assert lines[-1].endswith("it must not be used")
    else:
        assert (done.returncode, broken) == (0, [])
        assert lines[-1].endswith("a run on it would be safe")
    assert s3_bucket.keys() == []
