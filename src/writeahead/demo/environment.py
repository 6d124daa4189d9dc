"""What the demo needs around it: a CRM on loopback, a store, and processes that know where both are."""

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

__all__ = ["Act", "Artifact", "DemoFailed", "Environment", "set_stage"]

SESSION_FILE = "interested-callback.json"
_TIMEOUT = 120.0


class DemoFailed(WriteaheadError):
    """Something that the demo claims does not hold."""


@dataclass(frozen=True)
class Act:
    """One run of the command line in a process of its own.

    Attributes:
        command: As a person would type it.
        exit_code: Its exit code.
        output: What it printed, on both streams.
        requests: What reached the CRM meanwhile: method, resource, status and how many times in a
            row.
    """

    command: str
    exit_code: int
    output: str
    requests: Sequence[tuple[str, str, int | None, int]]

    def sent(self, resource: str) -> int:
        """How many requests to write such a resource there were, e.g. ``tasks``."""
        return sum(
            times
            for method, path, _, times in self.requests
            if method == "PATCH" and path.startswith(resource)
        )


@dataclass(frozen=True)
class Artifact:
    """An artifact: its text, and when it was written by the store's clock, in seconds since 1970."""

    text: str
    written_at: float | None

    @property
    def size(self) -> int:
        """Its length in bytes."""
        return len(self.text.encode())


class Environment:
    """A CRM, a store, and the means to run commands on them.

    Args:
        crm: The running simulator.
        store: The store's URL.
        folder: Where the commands run; it holds the session file.
        environment: Of the commands.
    """

    def __init__(self, crm: Simulator, store: str, folder: Path, environment: Mapping[str, str]) -> None:
        self.crm = crm
        self.store = store
        self._folder = folder
        self._environment = environment
        document = json.loads((_sessions() / SESSION_FILE).read_text("utf-8"))
        # A new id each time, since a store of one's own may hold an earlier demo.
        document["session_id"] = self.session_id = f"interested-callback-{secrets.token_hex(2)}"
        self.operations: list[dict[str, Any]] = document["operations"]
        (folder / SESSION_FILE).write_text(json.dumps(document, indent=2), "utf-8")
        # A JSON string of printable ASCII is a TOML string, too.
        settings = f'store = {json.dumps(store)}\nadapter = "dataverse"\n\n[policy]\nwait_initial = 0.05\n'
        (folder / "writeahead.toml").write_text(settings, "utf-8")

    def run(self, *arguments: str) -> Act:
        """Run ``writeahead`` with these arguments, in a new process. Its settings name store and adapter."""
        before = self.crm.last_sequence()
        done = self._process("writeahead", *arguments)
        return Act(
            command=" ".join(["writeahead", *arguments]),
            exit_code=done.returncode,
            output=done.stdout + done.stderr,
            requests=_in_rows(
                (request.method, _as_one(request.resource), request.status)
                for request in self.crm.requests(after=before)
                if not request.path.endswith("/token")
            ),
        )

    def artifacts(self) -> dict[str, Artifact]:
        """The session's artifacts by key, as a process of its own finds them in the store."""
        done = self._process("writeahead.demo.artifacts", self.store, self.session_id)
        if done.returncode:
            raise DemoFailed(f"the artifacts can't be read back: {done.stderr.strip().splitlines()[-1]}")
        return {
            found["key"]: Artifact(found["text"], found["written_at"]) for found in json.loads(done.stdout)
        }

    @property
    def shown_store(self) -> str:
        """The store without what would make its line too long."""
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
def set_stage(store: str | None) -> Iterator[Environment]:
    """Start a CRM with its rows; take the given store, ``s3`` for one of its own, or a temporary folder.

    Afterwards everything is ended and removed, but for the demo's artifacts in a store that was
    given.

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
            url = _lasting(store) if store else str(folder / "artifacts")
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
    """Start moto's S3 server in this process; gives the URL of a store on a new bucket."""
    with requires_extra("writeahead demo", "demo"):
        from moto.server import ThreadedMotoServer

        import writeahead.stores.s3  # noqa: F401 - the commands need it
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        # moto asks who it is and checks no signature, so that no S3 client is needed for this.
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
    """Ours, without settings that would lead the commands elsewhere, and with the way to the CRM."""
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


def _lasting(store: str) -> str:
    scheme = scheme_of(store)
    if scheme == "memory":
        raise InvalidInput(
            "demo --store memory://...: the demo resumes in another process: give a folder or a bucket"
        )
    # The commands run in another folder.
    url = store if scheme else str(Path(store).expanduser().absolute())
    open_store(url)  # says what is wrong with the URL, and connects to nothing yet
    return url


def _sessions() -> Any:
    """The session files: package data in an installed wheel, ``examples/sessions`` in a source tree."""
    shipped = files("writeahead.demo") / "sessions"
    return shipped if shipped.is_dir() else Path(__file__).parents[3] / "examples" / "sessions"


def _as_one(resource: str) -> str:
    """What planning reads of table definitions counts as one thing."""
    return "EntityDefinitions" if resource.startswith("EntityDefinitions") else resource


def _in_rows(requests: Iterator[tuple[str, str, int | None]]) -> list[tuple[str, str, int | None, int]]:
    rows: list[tuple[str, str, int | None, int]] = []
    for request in requests:
        times = rows.pop()[3] if rows and rows[-1][:3] == request else 0
        rows.append((*request, times + 1))
    return rows
