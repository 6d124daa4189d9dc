"""Fixtures that tests of several parts share."""

import os
import random
import secrets
import signal
import sys
from collections.abc import Iterator

import pytest

from tests.support.counts import print_counts
from tests.support.s3_proxy import S3Proxy
from tests.support.s3_server import RawBucket, running_server
from writeahead.testing import summary


def pytest_terminal_summary(terminalreporter) -> None:
    """A hook: pytest finds it by its name."""
    summary.pytest_terminal_summary(terminalreporter)
    print_counts(terminalreporter)


# The files that take a quarter of a minute and more. They come first, so that the workers end
# together.
LONG = (
    "stores/test_store_contract.py",
    "demo/test_demo.py",
    "stores/test_false_answers.py",
    "stores/test_any_fsspec_store.py",
    "stores/test_servers.py",
    "modelcheck/test_protocol_model.py",
    "stores/test_obstore_store.py",
    "protocol/test_interleavings.py",
    "protocol/test_stateful.py",
    "crash/test_kill_s3.py",
    "crash/test_kill_local.py",
    "crash/test_kill_prune.py",
    "crash/test_signals.py",
    "integration/test_kill.py",
    "adapters/dataverse/test_kinds_contract.py",
)


def pytest_collection_modifyitems(items) -> None:
    """A hook: pytest finds it by its name."""
    places = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path.as_posix().rpartition("/tests/")[2], len(LONG)))


# Who starts the tests in the background has SIGINT ignored, and so would the processes that they
# start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _no_waits_of_other_tests() -> Iterator[None]:
    """Forget the waits that remotes asked for: tests share ports, and names of adapters."""
    yield
    retry = sys.modules.get("writeahead.protocol.retry")
    if retry is not None:
        retry.Clock().waits.forget()
    protection = sys.modules.get("writeahead.adapters.dataverse.webapi.protection")
    if protection is not None:
        protection._known.clear()


@pytest.fixture
def chance() -> random.Random:
    """Chooses what a test tries of many; ``WRITEAHEAD_SEED`` repeats the choice of a failure."""
    seed = int(os.environ.get("WRITEAHEAD_SEED") or random.SystemRandom().randrange(10**6))
    print(f"WRITEAHEAD_SEED={seed}")
    return random.Random(seed)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The URL of an S3 server on loopback, with credentials for it in the environment."""
    from tests.support import s3_models

    s3_models.parse_once()
    with pytest.MonkeyPatch.context() as patch, running_server() as url:
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        # Whoever runs the tests may have settings of their own.
        patch.setenv("AWS_CONFIG_FILE", "/dev/null")
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        patch.delenv("AWS_PROFILE", raising=False)
        patch.delenv("AWS_ENDPOINT_URL", raising=False)
        yield url


@pytest.fixture
def s3_bucket(s3_server: str) -> RawBucket:
    """A new, empty bucket of that server, to be read and written around any store."""
    bucket = RawBucket(s3_server, f"bucket-{secrets.token_hex(6)}")
    bucket.create()
    return bucket


@pytest.fixture
def s3_proxy(s3_server: str) -> Iterator[S3Proxy]:
    """A proxy in front of that server, one for each test: faults on demand, requests counted."""
    with S3Proxy(s3_server) as proxy:
        yield proxy
