"""What the demo runs in: a simulated CRM, a store, and processes that are configured for both."""

import contextlib
import json
import logging
import os
import secrets
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from writeahead._extras import requires_extra
from writeahead.errors import InvalidInput, WriteaheadError
from writeahead.simulators.dataverse import Simulator
from writeahead.stores.registry import open_store
from writeahead.stores.urls import scheme_of

__all__ = ["Artifact", "CommandRun", "DemoFailed", "Environment", "demo_environment"]

SESSION_FILE = "interested-callback.json"
_TIMEOUT = 120.0


class DemoFailed(WriteaheadError):
    """A claim of the demo does not hold."""


@dataclass(frozen=True)
class CommandRun:
    """One command that ran in a process of its own.

    Attributes:
        command: The command line.
        exit_code: Its exit code.
        output: What it printed, on both streams.
        requests: The requests that reached the CRM meanwhile: method, resource, status, and how
            many times in a row.
    """

    command: str
    exit_code: int
    output: str
    requests: Sequence[tuple[str, str, int | None, int]]

    def sent(self, resource: str) -> int:
        """Return how many requests wrote to a resource, e.g. ``tasks``."""
        return sum(
            times
            for method, path, _, times in self.requests
            if method == "PATCH" and path.startswith(resource)
        )


@dataclass(frozen=True)
class Artifact:
    """An artifact: its text, and the store's time of its write, in seconds since 1970."""

    text: str
    written_at: float | None

    @property
    def size(self) -> int:
        """Its length in bytes."""
        return len(self.text.encode())


class Environment:
    """A CRM and a store, and commands that run on them.

    Args:
        crm: The running simulator.
        store: The store's URL.
        folder: The working directory of the commands. It gets the session file and the settings.
        environment: The environment variables of the commands.
    """

    def __init__(self, crm: Simulator, store: str, folder: Path, environment: Mapping[str, str]) -> None:
        self.crm = crm
        self.store = store
        self._folder = folder
        self._environment = environment
        document = json.loads((_sessions() / SESSION_FILE).read_text("utf-8"))
        # A new id each time, because a store that the user names may hold an earlier demo.
        document["session_id"] = self.session_id = f"interested-callback-{secrets.token_hex(2)}"
        self.operations: list[dict[str, Any]] = document["operations"]
        (folder / SESSION_FILE).write_text(json.dumps(document, indent=2), "utf-8")
        # A JSON string of printable ASCII is a TOML string, too.
        settings = f'store = {json.dumps(store)}\nadapter = "dataverse"\n\n[policy]\nwait_initial = 0.05\n'
        (folder / "writeahead.toml").write_text(settings, "utf-8")

    def run(self, *arguments: str) -> CommandRun:
        """Run ``writeahead`` with these arguments in a new process."""
        before = self.crm.last_sequence()
        done = self._process("writeahead", *arguments)
        return CommandRun(
            command=" ".join(["writeahead", *arguments]),
            exit_code=done.returncode,
            # What it says on stderr while it runs would only repeat the story.
            output=done.stdout or done.stderr,
            requests=_grouped(
                (request.method, _shortened(request.resource), request.status)
                for request in self.crm.requests(after=before)
                if not request.path.endswith("/token")
            ),
        )

    def artifacts(self) -> dict[str, Artifact]:
        """Read the session's artifacts from the store, by key.

        Raises:
            DemoFailed: The store can't be read.
        """
        done = self._process("writeahead.demo.artifacts", self.store, self.session_id)
        if done.returncode:
            raise DemoFailed(f"the artifacts can't be read back: {done.stderr.strip().splitlines()[-1]}")
        return {
            found["key"]: Artifact(found["text"], found["written_at"]) for found in json.loads(done.stdout)
        }

    @property
    def shown_store(self) -> str:
        """The store's URL without its options, which would make its line too long."""
        return self.store.partition("?")[0]

    def _process(self, module: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        try:
            return subprocess.run(  # noqa: S603 - our own interpreter and our own arguments
                [sys.executable, "-m", module, *arguments],
                cwd=self._folder,
                env=dict(self._environment),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                timeout=_TIMEOUT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise DemoFailed(f"{module} {arguments[0]} did not end within {_TIMEOUT:.0f} s") from None


@contextlib.contextmanager
def demo_environment(store: str | None) -> Iterator[Environment]:
    """Start a CRM with rows in it, and choose a store. Stop and remove everything at the end.

    Args:
        store: The store's URL, in which the artifacts stay; ``s3`` for a bucket on a server of the
            demo's own; None for a temporary folder.

    Raises:
        InvalidInput: The store can't be used, or a package that the demo needs is not installed.
    """
    with requires_extra("writeahead demo", "demo"):
        import writeahead.adapters.dataverse
        import writeahead.simulators.dataverse.server  # noqa: F401 - at once, to name this extra
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="writeahead-demo-")))
        crm = stack.enter_context(Simulator(folder / "crm.sqlite"))
        for entity_set, rows in json.loads((_sessions() / "seed.json").read_text("utf-8")).items():
            for row in rows:
                crm.seed(entity_set, row)
        environment = _environment(crm)
        if store == "s3":
            url = stack.enter_context(_s3())
            environment = {name: value for name, value in environment.items() if name[:4] != "AWS_"} | _AWS
        else:
            url = _permanent(store) if store else str(folder / "artifacts")
        yield Environment(crm, url, folder, environment)


_AWS = {
    "AWS_ACCESS_KEY_ID": "demo",
    "AWS_SECRET_ACCESS_KEY": "demo",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}
_BUCKET = "demo"


@contextlib.contextmanager
def _s3() -> Iterator[str]:
    """Start moto's S3 server in this process; yield the URL of a store on a new bucket."""
    with requires_extra("writeahead demo", "demo"):
        from moto.server import ThreadedMotoServer

        import writeahead.stores.s3  # noqa: F401 - the commands need it
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        # moto checks no signature, so no S3 client is needed for this.
        request = urllib.request.Request(f"{url}/{_BUCKET}", method="PUT")  # noqa: S310 - loopback
        request.add_header(
            "Authorization", "AWS4-HMAC-SHA256 Credential=demo/20260101/us-east-1/s3/aws4_request"
        )
        with urllib.request.urlopen(request, timeout=30):  # noqa: S310 - loopback
            pass
        yield f"s3://{_BUCKET}/sessions?endpoint_url={url}"
    finally:
        server.stop()


def _environment(crm: Simulator) -> dict[str, str]:
    """Return the environment of the commands: this process's, with the CRM as the only remote."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("WRITEAHEAD_", "DATAVERSE_")) and not name.lower().endswith("_proxy")
    }
    return kept | {
        "DATAVERSE_URL": crm.url,
        "DATAVERSE_AUTHORITY": crm.url,
        "DATAVERSE_TENANT_ID": crm.settings.tenant_id,
        "DATAVERSE_CLIENT_ID": crm.settings.client_id,
        "DATAVERSE_CLIENT_SECRET": crm.settings.client_secret,
        "PYTHONUTF8": "1",
    }


def _permanent(store: str) -> str:
    scheme = scheme_of(store)
    if scheme == "memory":
        raise InvalidInput(
            "demo --store memory://...: the demo resumes in another process: give a folder or a bucket"
        )
    # The commands run in another folder.
    url = store if scheme else str(Path(store).expanduser().absolute())
    open_store(url)  # raises if the URL is wrong, and connects to nothing yet
    return url


def _sessions() -> Any:
    """Return the folder of session files: in a wheel package data, else ``examples/sessions``."""
    shipped = files("writeahead.demo") / "sessions"
    return shipped if shipped.is_dir() else Path(__file__).parents[3] / "examples" / "sessions"


def _shortened(resource: str) -> str:
    """Name all reads of table definitions alike, so that they make one row."""
    return "EntityDefinitions" if resource.startswith("EntityDefinitions") else resource


def _grouped(requests: Iterator[tuple[str, str, int | None]]) -> list[tuple[str, str, int | None, int]]:
    rows: list[tuple[str, str, int | None, int]] = []
    for request in requests:
        times = rows.pop()[3] if rows and rows[-1][:3] == request else 0
        rows.append((*request, times + 1))
    return rows
