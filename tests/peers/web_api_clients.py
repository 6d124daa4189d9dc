"""Two clients of the Dataverse Web API of other authors, and the wire that they write on.

Microsoft's SDK for Python (``PowerPlatform-Dataverse-Client``) refuses plain HTTP, so its requests
leave for a made-up https URL and an adapter of ``requests`` takes them to loopback: only the URL
and the Host header are not as they would be. dynamics-web-api runs on node, as a process that takes
one call a line; `nox -s peers` installs it and names its folder in WRITEAHEAD_DYNAMICS_WEB_API.
"""

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from azure.core.credentials import AccessToken
from PowerPlatform.Dataverse.client import DataverseClient
from requests.adapters import HTTPAdapter

from writeahead.simulators.dataverse import Simulator
from writeahead.testing.http_proxy import HttpProxy

ORGANIZATION = "https://org.crm.dynamics.com"
TOKEN = "token-of-the-peers"


@dataclass(frozen=True)
class Sent:
    """A request as it was sent; names of headers are in lower case."""

    method: str
    target: str
    headers: dict[str, str] = field(repr=False)
    body: bytes = field(repr=False)


class Wire(HttpProxy):
    """Passes requests on to the simulator and keeps them as they are."""

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream)
        self.sent: list[Sent] = []

    def forward(self, method, target, headers, body):
        kept = {name.lower(): value for name, value in headers.items()}
        self.sent.append(Sent(method, target, kept, body))
        return super().forward(method, target, headers, body)

    def take(self) -> list[Sent]:
        """The requests since the last time."""
        found, self.sent = self.sent, []
        return found


def subjects(sim: Simulator) -> list[str]:
    """The subjects of all tasks."""
    return sorted(row["subject"] for row in sim.rows("tasks"))


class _ToLoopback(HTTPAdapter):
    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url

    def send(self, request, *args, **kwargs):
        request.url = request.url.replace(ORGANIZATION, self._url, 1)
        return super().send(request, *args, **kwargs)


class _Credential:
    def get_token(self, *_scopes: str, **_options: Any) -> AccessToken:
        return AccessToken(TOKEN, 2**31)


@contextlib.contextmanager
def microsofts_sdk(url: str) -> Iterator[DataverseClient]:
    """Microsoft's SDK for Python, on a server on loopback."""
    with DataverseClient(ORGANIZATION, _Credential()) as client:
        # The client has no public way to a transport of one's own.
        assert isinstance(client._session, requests.Session)
        client._session.mount(ORGANIZATION, _ToLoopback(url))
        yield client


class NodeError(Exception):
    """A call that was rejected: the HTTP status, and the service's message."""

    def __init__(self, status: int | None, message: str) -> None:
        super().__init__(message)
        self.status = status


class NodeClient:
    """dynamics-web-api. A batch is a list of pairs of a method's name and its request."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def call(self, name: str, request: Any, link: str | None = None) -> Any:
        """Call a method, and return what its promise comes to."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps({"call": name, "request": request, "link": link}) + "\n")
        self._process.stdin.flush()
        said = json.loads(self._process.stdout.readline())
        if "error" in said:
            raise NodeError(said["error"]["status"], said["error"]["message"])
        return said.get("value")

    def batch(self, *calls: tuple[str, dict[str, Any]]) -> list[Any]:
        """Send several calls in one batch, the writes among them as change sets."""
        return self.call("batch", [{"call": name, "request": request} for name, request in calls])


@contextlib.contextmanager
def dynamics_web_api(url: str) -> Iterator[NodeClient]:
    """The client on node, until the end of the block."""
    folder = Path(os.environ["WRITEAHEAD_DYNAMICS_WEB_API"])
    command = ["node", "client.js", url, TOKEN]
    with subprocess.Popen(
        command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield NodeClient(process)
        finally:
            process.stdin.close()
            process.wait(timeout=30)
