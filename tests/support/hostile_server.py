"""A server whose replies never end, or grow beyond all limits; it counts what it sent."""

import contextlib
import socket
import threading
import zlib

CONTENT = 2**26


class TickingClock:
    """A clock that moves one second each time it is read; a server keeps step by ``ticks``."""

    def __init__(self):
        self.now = 1000.0
        self.ticks = threading.Semaphore(0)

    def __call__(self):
        self.now += 1.0
        self.ticks.release()
        return self.now


class HostileServer:
    """Answers requests by ``behaviour(server, connection)``, and keeps their first bytes."""

    def __init__(self, behaviour, clock=None, tls=None):
        self.behaviour = behaviour
        self.tls = tls
        self.clock = clock or TickingClock()
        self.requests = []
        self.sent = 0
        self.stopped = threading.Event()
        self._connections = []
        self._threads = []

    def __enter__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        scheme = "https" if self.tls else "http"
        self.url = f"{scheme}://127.0.0.1:{self._listener.getsockname()[1]}"
        self._start(self._accept)
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.clock.ticks.release(2**16)
        # A blocked accept() does not notice that its socket is closed.
        socket.create_connection(self._listener.getsockname()).close()
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def send(self, connection, data):
        connection.sendall(data)
        self.sent += len(data)

    def _start(self, target, *arguments):
        thread = threading.Thread(target=target, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _accept(self):
        while True:
            connection, _ = self._listener.accept()
            if self.stopped.is_set():
                connection.close()
                return
            self._connections.append(connection)
            self._start(self._serve, connection)

    def _serve(self, connection):
        with connection, contextlib.suppress(OSError):
            if self.tls is None:
                self._answer(connection)
                return
            with self.tls.wrap_socket(connection, server_side=True) as encrypted:
                self._connections.append(encrypted)
                self._answer(encrypted)

    def _answer(self, connection):
        request = connection.recv(2**16)
        if request:
            self.requests.append(request)
            self.behaviour(self, connection)


def drips_headers(server, connection):
    """A header line each second, for ever."""
    server.send(connection, b"HTTP/1.1 200 OK\r\n")
    while not server.stopped.is_set():
        server.clock.ticks.acquire()
        server.send(connection, b"X: y\r\n")


def continues(server, connection):
    """``100 Continue`` each second, for ever."""
    while not server.stopped.is_set():
        server.clock.ticks.acquire()
        server.send(connection, b"HTTP/1.1 100 Continue\r\n\r\n")


def drips_body(server, connection):
    """A byte of the body each second, for ever."""
    server.send(connection, b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while not server.stopped.is_set():
        server.clock.ticks.acquire()
        server.send(connection, b" ")


def endless_body(server, connection):
    """A body without end, as fast as it is taken."""
    server.send(connection, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not server.stopped.is_set():
        server.send(connection, b"10000\r\n" + b" " * 2**16 + b"\r\n")


def gzip_bomb(server, connection):
    """64 MiB of blanks in 64 KiB of gzip."""
    body = bomb()
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n"
    server.send(connection, head.encode() + body)


def tunnels(server, connection):
    """A proxy: connects to what the request names, and passes bytes on."""
    host, _, port = server.requests[-1].split(b" ")[1].partition(b":")
    with socket.create_connection((host.decode(), int(port))) as target:
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        back = threading.Thread(target=_pump, args=(target, connection))
        back.start()
        _pump(connection, target)
        back.join()


def _pump(source, target):
    with contextlib.suppress(OSError):
        while data := source.recv(2**16):
            target.sendall(data)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def bomb(size=CONTENT):
    """So many blanks, compressed."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    pieces = [compressor.compress(b" " * 2**20) for _ in range(size // 2**20)]
    return b"".join([*pieces, compressor.flush()])
