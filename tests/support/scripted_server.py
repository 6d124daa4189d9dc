"""A server that sends exactly the given bytes, and keeps every request as it arrived."""

import contextlib
import http.client
import json
import socket
import struct
import threading
from dataclasses import dataclass, field

TOKEN = "planted-token-9f8e7d"


def reply(status, body=b"", **headers):
    """The bytes of a whole response."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} {http.client.responses.get(status, 'Odd')}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if status != 204:
        lines.append(f"Content-Length: {len(content)}")
    return "\r\n".join([*lines, "", ""]).encode() + content


def refused(status, code="", message="secret-message-text", **headers):
    """The bytes of a Dataverse error."""
    return reply(status, {"error": {"code": code, "message": message}}, **headers)


def cut(response, keep):
    """A response that ends before its time."""
    return ("close", response[:keep])


RESET = ("reset", b"")
CLOSE = ("close", b"")
SILENCE = ("silence", b"")


@dataclass
class Request:
    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    peer: int = 0

    @property
    def json(self):
        return json.loads(self.body)


@dataclass
class ScriptedServer:
    """Each request gets the next item of ``script``; beyond its end, a closed connection."""

    script: list = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)

    def __enter__(self):
        self._stop = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._threads = [threading.Thread(target=self._accept)]
        self._connections = []
        self._threads[0].start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        # A blocked accept() does not notice that its socket is closed.
        socket.create_connection(("127.0.0.1", self.port)).close()
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self):
        while True:
            connection, _ = self._listener.accept()
            if self._stop.is_set():
                connection.close()
                return
            self._connections.append(connection)
            thread = threading.Thread(target=self._serve, args=[connection])
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection):
        with connection, connection.makefile("rb") as stream:
            try:
                while (request := _read(stream)) is not None:
                    request.peer = connection.getpeername()[1]
                    self.requests.append(request)
                    action = self.script.pop(0) if self.script else CLOSE
                    if not self._act(connection, action):
                        return
            except OSError:
                return

    def _act(self, connection, action):
        if isinstance(action, bytes):
            connection.sendall(action)
            return True
        kind, content = action
        connection.sendall(content)
        if kind == "silence":
            self._stop.wait()
        if kind == "dribble":
            while not self._stop.wait(0.02):
                connection.sendall(b" ")
        if kind == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False


def _read(stream):
    line = stream.readline().decode("latin-1").strip()
    if not line:
        return None
    method, target, _ = line.split(" ")
    headers = {}
    while (header := stream.readline().decode("latin-1").strip()) != "":
        name, _, value = header.partition(":")
        headers[name.lower()] = value.strip()
    body = stream.read(int(headers.get("content-length", 0)))
    path, _, query = target.partition("?")
    return Request(method, path, query, headers, body)
