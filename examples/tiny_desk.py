"""A help desk on loopback that knows no keys. It loses replies and applies late, on demand."""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

# Seconds after which the desk gives a request up that it has not begun.
GIVES_UP_AFTER = 10.0


class TinyDesk:
    """``POST /tickets`` makes a ticket, each time; ``GET /tickets?ref=...`` finds by reference.

    Attributes:
        url: Where it listens.
        tickets: Its tickets, in order; a ticket's number is its place, from 1.
        posts: How many POSTs came.
        late: For each POST to come, how many seconds later it is applied. Its reply is lost. The
            desk drops it if it would take longer than `GIVES_UP_AFTER`.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self.url = ""
        self.tickets: list[dict[str, str]] = []
        self.posts = 0
        self.late: list[float] = []
        self._now = now
        self._waiting: list[tuple[float, dict[str, str]]] = []

    def post(self, ticket: dict[str, str]) -> int | None:
        """Make a ticket, and return its number; None if the reply is lost."""
        self.posts += 1
        if self.late:
            seconds = self.late.pop(0)
            if seconds <= GIVES_UP_AFTER:
                self._waiting.append((self._now() + seconds, ticket))
            return None
        self.catch_up()
        self.tickets.append(ticket)
        return len(self.tickets)

    def catch_up(self) -> None:
        """Apply what was late and is due by now."""
        due = [ticket for moment, ticket in self._waiting if moment <= self._now()]
        self._waiting = [late for late in self._waiting if late[0] > self._now()]
        self.tickets += due

    def find(self, ref: str) -> list[dict[str, object]]:
        self.catch_up()
        numbered = enumerate(self.tickets, start=1)
        return [{"number": number, **ticket} for number, ticket in numbered if ticket["ref"] == ref]


@contextlib.contextmanager
def running(now: Callable[[], float] = time.monotonic) -> Iterator[TinyDesk]:
    """Serve a new desk until the block ends."""
    desk = TinyDesk(now)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            (ref,) = parse_qs(urlsplit(self.path).query)["ref"]
            self._answer(200, desk.find(ref))

        def do_POST(self) -> None:
            number = desk.post(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            if number is None:
                self.close_connection = True  # without an answer
            else:
                self._answer(201, {"number": number})

        def _answer(self, status: int, document: object) -> None:
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        desk.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield desk
        finally:
            server.shutdown()
            thread.join()
