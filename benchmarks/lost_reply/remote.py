"""The remote of the lost-reply benchmark: HTTP on loopback, faults on demand, and the truth.

    GET   /deal                  the deal, with its version
    PATCH /deal    If-Match      sets its stage; 412 if it has another version
    POST  /contacts              makes a contact, each time. On the set-up "key" an Idempotency-Key
                                 that is known makes none: it gets the first answer, for ever
    GET   /contacts?ref=...      finds contacts by their reference; on the set-up "search" only
    POST  /emails                sends an e-mail, each time; what was sent can't be seen

It says of itself that a 503 comes before anything is applied. It says nothing of other failures.
"""

import contextlib
import copy
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

SETUPS = ("key", "search", "neither")
# What others may do: edit the deal as soon as the create arrives, or once it has our stage.
EDITS = ("none", "before our update", "after our update")
OURS, THEIRS = "won", "lost to a rival"

# Done by the remote, which also kills the client (its process id is in each request).
AT_THE_REMOTE = (
    "dropped before the effect",
    "dropped after the effect",
    "503 with Retry-After",
    "500 after the effect",
    "504, lands late",
    "killed after the effect",
    "killed, lands late",
)
AT_THE_CLIENT = ("killed before the send", "killed after the reply")
FAULTS = AT_THE_REMOTE + AT_THE_CLIENT
# A read has no effect, so that several faults are one to it.
OF_READS = ("dropped after the effect", "503 with Retry-After", *AT_THE_CLIENT)

Answer = tuple[int, dict]


@dataclass
class Truth:
    """What the remote holds.

    Attributes:
        contacts: The reference of each, "" where it has none.
        keys: The answer to each idempotency key.
        emails, updates: How many were sent; how often the deal was set to our stage.
        deal: Its stage and version.
        is_edited: Whether others have edited it.
        is_overwritten: Whether it was set to our stage after that.
    """

    contacts: list[str] = field(default_factory=list)
    keys: dict[str, Answer] = field(default_factory=dict)
    emails: int = 0
    updates: int = 0
    deal: dict = field(default_factory=lambda: {"stage": "open", "version": 1})
    is_edited: bool = False
    is_overwritten: bool = False


class Remote:
    """What it holds, and the faults that are armed."""

    def __init__(self) -> None:
        self.url = ""
        self.number = 0
        self._lock = threading.Condition()
        self._open = 0
        self.forget("key")

    def forget(self, setup: str, edit: str = "none", truth: Truth | None = None) -> None:
        """Begin a scenario: nothing is there but a deal, or a copy of what is given.

        Requests of earlier scenarios are refused from now on.
        """
        with self._lock:
            self.number += 1
            self.setup, self.edit = setup, edit
            self.truth = Truth() if truth is None else copy.deepcopy(truth)
            self.requests: list[str] = []
            self._late: list[Callable[[], Answer]] = []
            self.arm()

    def arm(self, exchange: int = 0, fault: str = "") -> None:
        """Let a fault happen at the exchange of this number from now on, from 1; 0 for none."""
        self._counted, self._exchange, self._fault = 0, exchange, fault
        self.was_met = False

    def is_due(self, method: str) -> str:
        """The fault of the request that has just arrived, if it has one."""
        self._counted += 1
        if self._counted != self._exchange or (method == "GET" and self._fault not in OF_READS):
            return ""
        self.was_met = True
        return self._fault

    def pass_time(self) -> None:
        """Wait for requests under way, and let what was late land: hours have passed."""
        with self._lock:
            self._lock.wait_for(lambda: self._open == 0)
            late, self._late = self._late, []
            for land in late:
                land()

    def answer(self, method: str, path: str, headers, body: bytes, kill: Callable[[], None]) -> Answer | None:
        """The answer to a request, or None if it gets none."""
        with self._lock:
            url = urlsplit(path)
            number, _, resource = url.path.strip("/").partition("/")
            if int(number) != self.number:
                return 410, {}
            self.requests.append(f"{method} {resource}")
            fault = self.is_due(method)
            if resource == "contacts" and method == "POST":
                self._others_edit("before our update")

            def apply() -> Answer:
                return self._apply(method, resource, parse_qs(url.query), headers, body)

            return self._at_fault(fault, apply, kill)

    def _at_fault(self, fault: str, apply: Callable[[], Answer], kill: Callable[[], None]) -> Answer | None:
        match fault:
            case "dropped before the effect":
                return None
            case "503 with Retry-After":
                return 503, {}
            case "504, lands late":
                self._late.append(apply)
                return 504, {}
            case "killed, lands late":
                self._late.append(apply)
                kill()
                return None
        done = apply()
        match fault:
            case "dropped after the effect":
                return None
            case "500 after the effect":
                return 500, {}
            case "killed after the effect":
                kill()
                return None
        return done

    def _apply(self, method: str, resource: str, query: dict, headers, body: bytes) -> Answer:
        asked = json.loads(body) if body else {}
        match method, resource:
            case "GET", "deal":
                return 200, dict(self.truth.deal)
            case "PATCH", "deal":
                return self._update(asked["stage"], int(headers["If-Match"]))
            case "GET", "contacts" if self.setup == "search":
                return 200, {"found": self.truth.contacts.count(query["ref"][0])}
            case "POST", "contacts":
                return self._create(asked, headers.get("Idempotency-Key"))
            case "POST", "emails":
                self.truth.emails += 1
                return 202, {}
        return 404, {}

    def _create(self, asked: dict, key: str | None) -> Answer:
        if self.setup == "key" and key in self.truth.keys:
            return self.truth.keys[key]
        self.truth.contacts.append(asked.get("ref", ""))
        answer = 201, {"id": len(self.truth.contacts)}
        if key is not None:
            self.truth.keys[key] = answer
        return answer

    def _update(self, stage: str, version: int) -> Answer:
        if version != self.truth.deal["version"]:
            return 412, {}
        self.truth.is_overwritten |= self.truth.is_edited
        self.truth.updates += 1
        self.truth.deal = {"stage": stage, "version": version + 1}
        answer = dict(self.truth.deal)
        self._others_edit("after our update")
        return 200, answer

    def _others_edit(self, moment: str) -> None:
        if self.edit == moment and not self.truth.is_edited:
            self.truth.is_edited = True
            self.truth.deal = {"stage": THEIRS, "version": self.truth.deal["version"] + 1}

    def connected(self, more: int) -> None:
        with self._lock:
            self._open += more
            self._lock.notify_all()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


@contextlib.contextmanager
def serving() -> Iterator[Remote]:
    """Serve a remote on loopback until the block ends."""
    remote = Remote()

    class Handler(BaseHTTPRequestHandler):
        def handle(self) -> None:
            remote.connected(1)
            try:
                with contextlib.suppress(ConnectionError):
                    super().handle()
            finally:
                remote.connected(-1)

        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = self.rfile.read(length)
            if len(body) < length:
                return  # its sender died on the way: nothing to apply
            pid = int(self.headers["X-Pid"])
            answer = remote.answer(
                self.command, self.path, self.headers, body, lambda: os.kill(pid, signal.SIGKILL)
            )
            if answer is None:
                return
            status, document = answer
            text = json.dumps(document).encode()
            self.send_response(status)
            if status == 503:
                self.send_header("Retry-After", "30")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_POST = do_PATCH = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with _Server(("127.0.0.1", 0), Handler) as server:
        remote.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield remote
        finally:
            server.shutdown()
            thread.join()
