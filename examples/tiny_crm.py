"""The remote of the examples: a CRM on loopback that keeps rows by key, and fails on demand."""

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class TinyCrm:
    """``PUT /rows/<key>`` keeps a row: 201 if it is new, 204 if it was there, 503 during an outage.

    ``GET /rows/<key>`` reads it, 404 if there is none.

    Attributes:
        url: Where it listens.
        rows: Its rows, by key.
        outage_after: It answers 503 once it has answered this many requests; None: never.
    """

    def __init__(self) -> None:
        self.url = ""
        self.rows: dict[str, str] = {}
        self.requests: list[str] = []
        self.outage_after: int | None = None

    def put(self, path: str, body: str) -> int:
        self.requests.append(f"PUT {path}")
        if self.outage_after is not None and len(self.requests) > self.outage_after:
            return 503
        key = path.removeprefix("/rows/")
        is_new = key not in self.rows
        self.rows[key] = body
        return 201 if is_new else 204


@contextlib.contextmanager
def running() -> Iterator[TinyCrm]:
    """Serve a new CRM until the block ends."""
    crm = TinyCrm()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            row = crm.rows.get(self.path.removeprefix("/rows/"))
            body = b"" if row is None else row.encode()
            self.send_response(404 if row is None else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            self.send_response(crm.put(self.path, body))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        crm.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield crm
        finally:
            server.shutdown()
            thread.join()
