"""A real SAP CAP server on loopback with a real SQLite database: OData v4 as others understand it.

It takes node, and a folder with ``tests/peers/cap`` and its packages installed, as ``nox -s peers``
makes it.
"""

import json
import os
import re
import shutil
import subprocess
import threading
import urllib.request
from contextlib import contextmanager
from pathlib import Path

from writeahead.testing import HttpProxy

API = "/api/data/v9.2"


class Cap:
    """The running server: its URL, its database file, and requests as of another program."""

    def __init__(self, url: str, file: Path) -> None:
        self.url, self.file = url, file

    def send(self, method: str, path: str, columns=None) -> None:
        body = None if columns is None else json.dumps(columns).encode()
        headers = {"Content-Type": "application/json"}
        if method != "POST":
            headers["If-Match"] = "*"
        request = urllib.request.Request(f"{self.url}{API}/{path}", body, headers, method=method)
        urllib.request.urlopen(request, timeout=30).close()


class RelativeParts(HttpProxy):
    """Makes the absolute paths in a batch relative, because CAP takes them for relative ones.

    Both are OData ("OData Version 4.0 Part 1: Protocol", 11.7.2); Dataverse's pages show absolute
    ones.
    """

    def forward(self, method, target, headers, body):
        if target == f"{API}/$batch":
            body = body.replace(f"PATCH {API}/".encode(), b"PATCH ")
            headers = {name: value for name, value in headers.items() if name.lower() != "content-length"}
        return super().forward(method, target, headers, body)


@contextmanager
def running_cap(folder: Path, *, key_exists: int = 400):
    """Make a database and serve it.

    Args:
        folder: For the database and the log.
        key_exists: The status that an existing key is answered with: 400, or 500 as it comes.
    """
    installed = Path(os.environ["WRITEAHEAD_CAP"])
    for name in ("package.json", "srv"):
        source = installed / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
    (folder / "node_modules").symlink_to(installed / "node_modules")
    cds = folder / "node_modules" / "@sap" / "cds" / "bin"
    subprocess.run(["node", cds / "deploy.js"], cwd=folder, check=True, capture_output=True)
    log = folder / "log"
    environ = {**os.environ, "CAP_KEY_EXISTS": str(key_exists)}
    with log.open("w") as output:
        server = subprocess.Popen(
            ["node", cds / "serve.js", "--port", "0"], cwd=folder, env=environ, stdout=output, stderr=output
        )
    try:
        direct = f"http://127.0.0.1:{_port(log, server)}"
        with RelativeParts(direct) as front:
            yield Cap(front.url, folder / "crm.sqlite")
    finally:
        server.terminate()
        server.wait()


def _port(log: Path, server: subprocess.Popen) -> str:
    while server.poll() is None:
        found = re.search(r"listening on .*localhost:(\d+)", log.read_text())
        if found:
            return found[1]
        threading.Event().wait(0.05)
    raise AssertionError(f"the server did not start: {log.read_text()}")
