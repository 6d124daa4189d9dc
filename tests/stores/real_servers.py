"""What `check` says of real servers, beside the truth. `nox -s servers` starts those that it finds.

The truth is found by bare HTTP around every store: `tests/support/raw_servers.py`. The table goes
to the end of the run, and from there into docs/stores.md. A server that is not installed is
skipped, with its reason.
"""

import os
import secrets
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pytest

from tests.support.raw_servers import S3, Azure, Raw, order, race, refuses
from tests.support.real_servers import BUCKET, SERVERS, Endpoint, NotInstalled, version_of
from writeahead.stores import remote
from writeahead.stores.registry import open_store
from writeahead.testing import StoreContract

KIT = Path(__file__).with_name("server_kit.py")
ROUNDS = 40
CLIENTS = {name: ["s3fs", "obstore"] for name in SERVERS} | {"azurite": ["obstore"]}


@dataclass
class Truth:
    """What a server does, and where."""

    name: str
    server: Endpoint
    raw: Raw
    version: str
    refuses: bool
    shown: int
    order: str
    versions: str = "-"
    verdicts: dict[str, str] = field(default_factory=dict)

    def row(self) -> list[str]:
        races = f"{self.shown} of {ROUNDS}"
        refused = "yes" if self.refuses else "no"
        return [f"{self.name} {self.version}", refused, races, self.order, self.versions, *self.told()]

    def told(self) -> list[str]:
        return [self.verdicts.get(client, "-") for client in ("s3fs", "obstore")]


HEAD = ["server", "a create is refused", "races with several winners", "listing"]
HEAD += ["with versions", "check, s3fs", "check, obstore"]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Nothing of the settings of the user who runs this."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("AWS_CONFIG_FILE", "/dev/null")
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_SESSION_TOKEN"):
            patch.delenv(name, raising=False)
        yield patch


@pytest.fixture(scope="module")
def truths(environment, tmp_path_factory, request):
    """The truth about a server by its name; each is started once, and ends with the module."""
    known: dict[str, Truth | str] = {}
    with ExitStack() as stack:

        def find(name: str) -> Truth:
            if name not in known:
                try:
                    server = stack.enter_context(SERVERS[name](tmp_path_factory.mktemp(name)))
                except NotInstalled as missing:
                    known[name] = str(missing)
                else:
                    known[name] = truth_of(name, server)
            found = known[name]
            if isinstance(found, str):
                pytest.skip(found)
            log_in(environment, found.server)
            return found

        yield find
    terminal = request.config.pluginmanager.get_plugin("terminalreporter")
    rows = [found.row() for found in known.values() if isinstance(found, Truth)]
    lines = ["| " + " | ".join(row) + " |" for row in [HEAD, ["---"] * len(HEAD), *rows]]
    lines += [f"{name}: {found}" for name, found in known.items() if isinstance(found, str)]
    with request.config.pluginmanager.get_plugin("capturemanager").global_and_fixture_disabled():
        for line in ["", *lines]:
            terminal.write_line(line)


def truth_of(name: str, server: Endpoint) -> Truth:
    raw = Azure(server) if name == "azurite" else S3(server)
    raw.create_bucket()
    counts = race(raw, ROUNDS)
    shown = sum(times for winners, times in counts.items() if winners != 1)
    truth = Truth(name, server, raw, version_of(name), refuses(raw, "refused"), shown, order(raw))
    if isinstance(raw, S3):
        versioned = S3(server, "versioned")
        versioned.create_bucket()
        if versioned.version_bucket() == 200:
            truth.versions = "refused" if refuses(versioned, "refused") else "accepted"
    return truth


def log_in(environment: pytest.MonkeyPatch, server: Endpoint) -> None:
    environment.setenv("AWS_ACCESS_KEY_ID", server.access_key)
    environment.setenv("AWS_SECRET_ACCESS_KEY", server.secret_key)
    environment.setenv("AZURE_STORAGE_ACCOUNT_NAME", server.access_key)
    environment.setenv("AZURE_STORAGE_ACCOUNT_KEY", server.secret_key)


def url_of(name: str, server: Endpoint, client: str, bucket: str = BUCKET, prefix: str = "p") -> str:
    if name == "azurite":
        return f"az://{bucket}/{prefix}?account={server.access_key}&endpoint_url={server.url}"
    options = f"client={client}&region=us-east-1&addressing_style=path"
    return f"s3://{bucket}/{prefix}?{options}&endpoint_url={server.url}"


PAIRS = [(name, client) for name in SERVERS for client in CLIENTS[name]]


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("name", "client"), PAIRS)
def test_the_verdict_is_the_truth(truths, name, client):
    """A promise that bare requests see broken is never told as kept.

    A race that has several winners is a proof, so the check may find one that they did not see.
    """
    truth = truths(name)
    check = open_store(url_of(name, truth.server, client)).check()
    seen = {result.promise: result for result in check.results}
    broken = [result.promise for result in check.results if not result.ok]
    truth.verdicts[client] = "safe" if check.ok else f"not safe: {', '.join(broken)}"
    print(*(f"{result.promise}: {result.seen}" for result in check.results), sep="\n")
    assert seen["refused create"].ok is truth.refuses
    assert not (seen["one winner"].ok and truth.shown)
    assert seen["list"].ok is (truth.order == "byte order")


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("name", "client"), [pair for pair in PAIRS if pair[0] != "azurite"])
def test_versions_are_told(truths, name, client):
    """Whether a server with versions heeds the condition, and that it keeps versions."""
    truth = truths(name)
    if truth.versions == "-":
        pytest.skip(f"{name} has no versions")
    check = open_store(url_of(name, truth.server, client, "versioned")).check()
    seen = {result.promise: result for result in check.results}
    assert seen["versions"].seen.startswith("yes")
    assert seen["refused create"].ok is (truth.versions == "refused")


# Not on Azurite, which `TestAzurite` tries, nor on moto: it looks and then writes, which a race
# hits now and then.
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", [name for name in SERVERS if name not in ("azurite", "moto")])
def test_the_contract_holds_where_the_verdict_is_safe(truths, name):
    truth = truths(name)
    if set(truth.verdicts.values()) != {"safe"}:
        pytest.skip(f"{name} is not safe: {truth.verdicts}")
    environment = {
        **os.environ,
        "WRITEAHEAD_S3_URL": truth.server.url,
        "WRITEAHEAD_S3_BUCKET": BUCKET,
        "WRITEAHEAD_S3_OPTIONS": "region=us-east-1&addressing_style=path",
        "WRITEAHEAD_S3_LISTED": "5000",
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(KIT)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:]


class Container:
    """A prefix of an Azurite container, seen through bare HTTP."""

    def __init__(self, truth: Truth) -> None:
        self.prefix = f"kit-{secrets.token_hex(4)}"
        self.raw, self._server = truth.raw, truth.server
        self.server = truth.server.url.removesuffix(f"/{truth.server.access_key}")
        self.url = url_of("azurite", self._server, "obstore", prefix=self.prefix)

    def open(self):
        return open_store(self.url)

    def open_at(self, server):
        at = Endpoint(f"{server}/{self._server.access_key}", self._server.access_key)
        return open_store(url_of("azurite", at, "obstore", prefix=self.prefix))

    def read(self, key):
        status, data = self.raw.send("GET", f"{self.prefix}/{key}")
        return data if status == 200 else None

    def write(self, key, data):
        assert self.raw.put(f"{self.prefix}/{key}", data) == 201

    def fill(self, prefix, count):
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda number: self.write(f"{prefix}{number:06d}", b"filled"), range(count)))

    def keys(self):
        return [key.removeprefix(f"{self.prefix}/") for key in self.raw.keys(f"{self.prefix}/")]


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    monkeypatch.setattr(remote, "WAIT_INITIAL", 0.02)


class TestAzurite(StoreContract):
    listed_keys: ClassVar[int] = 5000
    impossible: ClassVar[Mapping[str, str]] = {
        "links": "there is no file system",
        "durability": "its server keeps the files",
        "fork": "obstore's threads do not outlive a fork; a child is told so at once",
    }

    @pytest.fixture
    def backdoor(self, truths):
        return Container(truths("azurite"))
