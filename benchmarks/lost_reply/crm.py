"""The client that all contenders use, and what its errors mean.

The best practice by hand, the same for all: keys where the remote takes them, a search where it
can be searched, If-Match for the update, and an unknown outcome told apart from a sure refusal.
What can't be proved (the e-mail; on the set-up "neither", the create, too) is never retried after
an unknown outcome.
"""

import json
import os
import signal
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from urllib.parse import quote, urlsplit

from benchmarks.lost_reply.remote import OURS

ATTEMPTS = 4


class NotApplied(Exception):
    """Surely not applied; another attempt may succeed."""


class Unknown(Exception):
    """No one can tell from here whether it was applied."""


class Conflict(Exception):
    """Another user changed the deal meanwhile."""


# With these a contender hands the decision to an operator.
ASKS = (Unknown, Conflict)


class Crm:
    """A client of one scenario's remote.

    Args:
        url: The remote's, with the scenario's number.
        setup: One of `remote.SETUPS`.
        moment, exchange: Where this process dies, if it does: before the send or after the reply of
            this exchange, counted from 1.
    """

    def __init__(self, url: str, setup: str, moment: str = "", exchange: int = 0) -> None:
        self.setup = setup
        self._url = urlsplit(url)
        self._moment, self._exchange = moment, exchange
        self._counted = 0

    def baseline(self) -> dict:
        """Read the deal."""
        status, deal = self._send("GET", "/deal")
        _require(status, 200)
        return deal

    def create(self, ref: str) -> None:
        """Make a contact by its idempotency key; on the set-up "search", search for it first."""
        if self.setup == "search" and self.find(ref):
            return
        self.post_contact(ref)

    def find(self, ref: str) -> bool:
        status, found = self._send("GET", f"/contacts?ref={quote(ref)}")
        _require(status, 200)
        return found["found"] > 0

    def post_contact(self, ref: str) -> None:
        headers = {"Idempotency-Key": ref} if self.setup == "key" else {}
        named = {"ref": ref} if self.setup == "search" else {}
        status, _ = self._send("POST", "/contacts", {"name": "A. Caller"} | named, headers)
        _require(status, 201)

    def update(self, baseline: dict) -> None:
        """Set the deal's stage, if it is as the baseline says, or has our stage already.

        Raises:
            Conflict: It is neither.
        """
        status, _ = self._send("PATCH", "/deal", {"stage": OURS}, {"If-Match": str(baseline["version"])})
        if status == 412:
            try:
                now = self.baseline()
            except NotApplied as error:
                raise Unknown(f"PATCH: 412, then {error}") from None
            if now["stage"] != OURS:
                raise Conflict("PATCH: the deal was changed")
            return
        _require(status, 200)

    def email(self) -> None:
        status, _ = self._send("POST", "/emails", {"text": "It is done."})
        _require(status, 202)

    def _send(self, method: str, path: str, document: dict | None = None, headers: dict | None = None):
        self._counted += 1
        self._may_die("killed before the send")
        body = None if document is None else json.dumps(document)
        connection = HTTPConnection(self._url.hostname, self._url.port, timeout=60)
        try:
            sent = {"X-Pid": str(os.getpid())} | (headers or {})
            connection.request(method, self._url.path + path, body, sent)
            reply = connection.getresponse()
            answer = json.loads(reply.read())
        except (OSError, HTTPException) as error:
            raise Unknown(f"{method}: {type(error).__name__}") from None
        finally:
            connection.close()
        self._may_die("killed after the reply")
        if reply.status == 503:
            raise NotApplied(f"{method}: 503")
        if reply.status >= 500:
            raise Unknown(f"{method}: {reply.status}")
        return reply.status, answer

    def _may_die(self, moment: str) -> None:
        if (moment, self._counted) == (self._moment, self._exchange):
            os.kill(os.getpid(), signal.SIGKILL)


def _require(status: int, expected: int) -> None:
    if status != expected:
        raise RuntimeError(f"the remote says {status}")


def is_provable(step: str, setup: str) -> bool:
    """Whether a step may be sent again after an unknown outcome."""
    return step in ("baseline", "update") or (step == "create" and setup != "neither")


def may_retry(step: str, setup: str) -> Callable[[BaseException], bool]:
    """The rule for a step's retries in one process, for any tool that takes one."""
    again = (NotApplied, Unknown) if is_provable(step, setup) else (NotApplied,)
    return lambda error: isinstance(error, again)
