"""What `AdapterContract` puts between an adapter and its remote, by name."""

from collections.abc import Callable, Mapping

from writeahead.testing.http_proxy import (
    Fault,
    answer,
    applied_then,
    lost_reply,
    reset_mid_body,
    truncated,
)

__all__ = ["FAULTS", "RETRY_AFTER", "TOLD_TO_WAIT"]

# Seconds, in both forms of Retry-After (RFC 9110, section 10.2.3). The date stands beside the Date
# that it is compared with, so that nobody's clock counts.
RETRY_AFTER = 7
_SECONDS = {"Retry-After": str(RETRY_AFTER)}
_DATE = {"Date": "Sun, 06 Nov 1994 08:49:37 GMT", "Retry-After": "Sun, 06 Nov 1994 08:49:44 GMT"}
_HTML = {"Content-Type": "text/html"}
_JSON = {"Content-Type": "application/json"}

# Each from the body that the client is sent, which repeats what no message may hold. All of these
# pass, so that none of them needs a person; after each of them a replay must do no harm.
FAULTS: Mapping[str, Callable[[bytes], Fault]] = {
    "reset before apply": lambda _body: Fault("reset before apply", forward=False, reset=True),
    "reset mid-body": lambda _body: reset_mid_body(),
    "lost reply": lambda _body: lost_reply(),
    "truncated reply": lambda _body: truncated(),
    "not JSON": lambda body: answer(200, _HTML, b"<html>" + body),
    "not JSON, applied": lambda body: applied_then(200, _HTML, b"<html>" + body),
    "408": lambda body: answer(408, _JSON, body),
    "429": lambda body: answer(429, _JSON, body),
    "429 seconds": lambda body: answer(429, _JSON | _SECONDS, body),
    "429 date": lambda body: answer(429, _JSON | _DATE, body),
    "503 seconds": lambda body: answer(503, _JSON | _SECONDS, body),
    "500": lambda body: answer(500, _JSON, body),
    "502": lambda body: answer(502, _HTML, body),
    "503": lambda body: answer(503, _HTML, body),
    "504": lambda body: answer(504, _HTML, body),
    "500, applied": lambda body: applied_then(500, _JSON, body),
    "502, applied": lambda body: applied_then(502, _HTML, body),
    "503, applied": lambda body: applied_then(503, _HTML, body),
    "504, applied": lambda body: applied_then(504, _HTML, body),
}
TOLD_TO_WAIT = ("429 seconds", "429 date", "503 seconds")
