"""A remote that repeats what it was sent, and an adapter that sends secrets and repeats it."""

from urllib.parse import parse_qs, urlsplit

import httpx
from pydantic import BaseModel

from tests.support import http_server
from writeahead import Adapter, Receipt, emits, write_back
from writeahead.adapters.http import quiet_logs
from writeahead.errors import PermanentError


class Secretive(BaseModel):
    text: str
    token: str


class LeakyAdapter(Adapter):
    """Sends secrets everywhere, and repeats in its errors what the remote says."""

    name = "leaky"

    def __init__(self, url):
        self._http = httpx.Client(base_url=url, headers={"Authorization": "Bearer planted-header"})

    def close(self):
        self._http.close()

    @emits("upsert")
    def emit_row(self, payload: Secretive, operation) -> Receipt:
        with quiet_logs():
            reply = self._http.put(f"/rows?sig=planted-query&id={operation.id}", json=payload.model_dump())
        if reply.status_code != 200:
            raise PermanentError(f"PUT /rows: 400 {reply.text}")
        value = {"seen": reply.text}
        return Receipt(remote_id="planted-id", remote_version="planted-version", value=value)


class Echo(http_server.QuietHandler):
    """Answers with all that it was sent, as some servers do; refuses ``2-row``."""

    def do_PUT(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        said = body + self.path.encode() + self.headers["Authorization"].encode()
        refuses = parse_qs(urlsplit(self.path).query)["id"] == ["2-row"]
        self.send_response(400 if refuses else 200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)


def leak(store):
    """Run a session whose second operation is refused; return its report and its adapter."""
    payload = {"text": "planted-text", "token": "planted-token"}
    with http_server.serving(Echo) as url:
        adapter = LeakyAdapter(url)
        asked = [{"kind": "row", "payload": payload}] * 2
        report = write_back(asked, session_id="s1", store=store, adapter=adapter)
        adapter.close()
    # The remote did say it.
    assert (report.status, "planted-token" in report.error) == ("blocked", True)
    return report, adapter
