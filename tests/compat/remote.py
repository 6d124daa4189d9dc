"""The remote of both versions: rows by key over loopback HTTP, which fails as a test says."""

import json
import threading
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.compat.driver import DIE

PROVABLE = ("create", "upsert", "update", "all")
# What a request may meet: (whether it takes effect, the status that it gets; None: no answer).
MEETS = {
    "unavailable": (False, 503),
    "retry-after": (False, 503),
    "conflict": (False, 409),
    "rejected": (False, 400),
    "lost": (True, None),
    "die-before": (False, DIE),
    "die-after": (True, DIE),
}


class Remote:
    """The truth: every request, and how often each key took effect.

    ``altered``: operations that were sent again with another body; not a digit may differ.
    """

    def __init__(self):
        self.url = ""
        self.requests = []
        self.bodies = {}
        self.altered = []
        self.effects = Counter()
        self.script = {}
        self._lock = threading.Lock()

    def post(self, path, body):
        """Take one request; gives its status, and whether to ask for a long wait."""
        kind, operation_id, key = path.strip("/").split("/")
        # Numbers as they are written; the order of keys is the sender's.
        rows = json.loads(body, parse_int=str, parse_float=str)
        with self._lock:
            self.requests.append(operation_id)
            if self.bodies.setdefault(operation_id, rows) != rows:
                self.altered.append(operation_id)
            keys = list(rows) if kind == "all" else [key]
            meets = self.script.get(operation_id)
            met = meets.pop(0) if meets else None
            applies, status = MEETS[met] if met else (True, 201)
            known = kind in PROVABLE and self.effects[keys[0]] > 0
            if applies and not known:
                self.effects.update(keys)
            if met is None and known:
                status = 208
            return status, met == "retry-after"


@contextmanager
def serving():
    """Serve until the block ends."""
    remote = Remote()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self._answer(200 if remote.effects[self.path.rsplit("/", 1)[1]] else 404)

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, later = remote.post(self.path, body)
            if status is not None:
                self._answer(status, **({"Retry-After": "3600"} if later else {}))

        def _answer(self, status, **headers):
            self.send_response(status)
            for name, value in {"Content-Length": "0", **headers}.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    remote.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield remote
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
