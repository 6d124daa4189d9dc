"""A real trytond on loopback with a real SQLite database, and what its mail server got."""

import base64
import json
import os
import secrets
import socket
import socketserver
import subprocess
import sys
import threading
import urllib.request
from contextlib import contextmanager
from pathlib import Path

ADMIN_PASSWORD, SERVICE_PASSWORD = "planted-admin-Pw-1", "planted-service-Pw-2"
DATABASE, SERVICE = "crm", "writeahead"


# A server of its own that hashes passwords in a millisecond: each of hundreds of sessions logs in.
_SERVER = """
import functools, runpy, pwdlib.hashers.argon2 as argon2
cheap = {"time_cost": 1, "memory_cost": 8, "parallelism": 1}
argon2.Argon2Hasher = functools.partial(argon2.Argon2Hasher, **cheap)
runpy.run_module("trytond.cli", run_name="__main__")
"""


class Mailbox(socketserver.ThreadingTCPServer):
    """As much of an SMTP server as a client needs (RFC 5321); it keeps what it accepted."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        self.messages: list[str] = []
        super().__init__(("127.0.0.1", 0), _Smtp)


class _Smtp(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        self.say("220 mailbox")
        while line := self.rfile.readline():
            verb = line[:4].upper()
            if verb == b"DATA":
                self.say("354 go on")
                self.server.messages.append(self.message())
            if verb == b"QUIT":
                self.say("221 bye")
                return
            self.say("250 mailbox")

    def message(self) -> str:
        lines = []
        while (line := self.rfile.readline()) not in (b".\r\n", b""):
            lines.append(line.decode())
        return "".join(lines)

    def say(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())


class Tryton:
    """The running server: its URL, its database file, and calls of a user who is logged in."""

    def __init__(self, url: str, file: Path, mailbox: Mailbox) -> None:
        self.url, self.file, self.mailbox = url, file, mailbox
        user_id, token, *_ = self._post("common.db.login", ["admin", {"password": ADMIN_PASSWORD}], {})
        secret = base64.b64encode(f"admin:{user_id}:{token}".encode()).decode()
        self._headers = {"Authorization": f"Session {secret}"}

    def call(self, method: str, *parameters):
        """Call a method as the administrator."""
        return self._post(f"model.{method}", [*parameters, {}], self._headers)

    def _post(self, method, parameters, headers):
        body = json.dumps({"id": 1, "method": method, "params": parameters}).encode()
        headers = {"Content-Type": "application/json", **headers}
        request = urllib.request.Request(f"{self.url}/{DATABASE}/rpc/", body, headers)
        with urllib.request.urlopen(request, timeout=60) as reply:
            content = json.load(reply)
        assert "error" not in content, content
        return content["result"]


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@contextmanager
def running_tryton(folder: Path):
    """Make a database with the module party and a user for the adapter, and serve it."""
    with Mailbox() as mailbox:
        thread = threading.Thread(target=mailbox.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            with _process(folder, mailbox) as url:
                tryton = Tryton(url, folder / f"{DATABASE}.sqlite", mailbox)
                tryton.call(
                    "res.user.create",
                    [{"name": "Service", "login": SERVICE, "password": SERVICE_PASSWORD}],
                )
                yield tryton
        finally:
            mailbox.shutdown()
            thread.join()


@contextmanager
def _process(folder: Path, mailbox: Mailbox):
    port = _free_port()
    config, password = folder / "trytond.conf", folder / "password"
    password.write_text(ADMIN_PASSWORD)
    config.write_text(
        f"[web]\nlisten = 127.0.0.1:{port}\n"
        f"[database]\nuri = sqlite://\npath = {folder}\n"
        f"[email]\nuri = smtp://127.0.0.1:{mailbox.server_address[1]}\nfrom = erp@example.org\n"
    )
    environ = {**os.environ, "TRYTONPASSFILE": str(password)}
    (folder / f"{DATABASE}.sqlite").touch()
    options = ["-c", str(config), "-d", DATABASE]
    admin = [sys.executable, "-m", "trytond.cli.admin", *options, "--email", "admin@example.org"]
    made = subprocess.run(
        [*admin, "--activate-dependencies", "-u", "party"],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stdout
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-c", _SERVER, *options], env=environ, stdout=log, stderr=log
        )
    try:
        _await_port(port, server)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def _await_port(port: int, server: subprocess.Popen) -> None:
    while server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            threading.Event().wait(0.05)
        else:
            return
    raise AssertionError("the server did not start")


def token() -> str:
    """Something that is there nowhere else."""
    return secrets.token_hex(8)
