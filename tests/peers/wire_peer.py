"""Our client's requests beside those of two others, header by header, as they are on the wire.

For ``nox -s peers``. What all three agree on must stay so. Where ours differs, `OURS` and the tests
say how, and why that is right: a new difference fails here.
"""

import email
import json
import re
import urllib.parse
import uuid

import pytest

from tests.peers.web_api_clients import ORGANIZATION, TOKEN, Wire, dynamics_web_api, microsofts_sdk
from writeahead.adapters.dataverse import DataverseClient
from writeahead.adapters.dataverse.webapi.batch import Part
from writeahead.simulators.dataverse import Settings, Simulator

HARD = "O'Neil \u00fc"
KEY = {"accountnumber": HARD}
NODE_KEY = f"accountnumber='{HARD.replace(chr(39), chr(39) * 2)}'"
TEXT = f"{HARD} \U0001f4de"
# Of the connection, of tracing, or about who is asking.
BESIDE_THE_POINT = {
    "accept-encoding",
    "authorization",
    "connection",
    "content-length",
    "host",
    "user-agent",
    "x-ms-client-request-id",
    "x-ms-correlation-id",
}
READ = {"accept": "application/json", "odata-version": "4.0", "odata-maxversion": "4.0"}
ANSWERS = "multipart/mixed, application/json;q=0.9"
OURS = {
    # No charset: JSON is UTF-8 (RFC 8259, section 8.1), and ours is ASCII. The SDK has none either,
    # and sends the header with a GET, too, which has no body.
    "write": READ | {"content-type": "application/json"},
    "read": READ,
}
# The page "Compose HTTP requests and handle errors" has it in every request, against caches of
# browsers; neither of the others sends it, and there is no such cache here.
assert "if-none-match" not in READ


class Trio:
    """A simulator, our client and the two others, and what each of them sent last."""

    def __init__(self, sim, wire, ours, sdk, node):
        self.sim, self.wire, self.ours, self.sdk, self.node = sim, wire, ours, sdk, node
        self.row = sim.seed("tasks", {"subject": "x"})
        sim.seed("accounts", {"name": "x", **KEY})

    def etag(self):
        return f'W/"{self.sim.row("tasks", self.row)["versionnumber"]}"'

    def sent(self, call):
        """The request that a call makes, without those for definitions."""
        self.wire.take()
        call()
        [found] = [one for one in self.wire.take() if "EntityDefinitions" not in one.target]
        return found


@pytest.fixture(scope="module")
def trio(tmp_path_factory):
    file = tmp_path_factory.mktemp("wire") / "crm.sqlite"
    with (
        Simulator(file, settings=Settings(static_tokens=[TOKEN])) as sim,
        Wire(sim.url) as wire,
        microsofts_sdk(wire.url) as sdk,
        dynamics_web_api(wire.url) as node,
    ):
        ours = DataverseClient(wire.url, lambda: TOKEN)
        yield Trio(sim, wire, ours, sdk, node)
        ours.close()


def headers(request):
    return {name: value for name, value in request.headers.items() if name not in BESIDE_THE_POINT}


def place(request):
    """Where it goes, decoded once; GUIDs that are new in each request are one."""
    path, _, query = request.target.partition("?")
    assert request.target.isascii()
    options = sorted(urllib.parse.parse_qsl(query, strict_parsing=True)) if query else []
    return urllib.parse.unquote(path), options


def same(ours, *others, by="write"):
    """The same method and place, JSON that means the same, and headers but for what `OURS` says."""
    for other in others:
        assert (ours.method, place(ours)) == (other.method, place(other))
        assert json.loads(ours.body or "null") == json.loads(other.body or "null")
        assert ours.body.isascii()
        differing = {
            name
            for name in (headers(ours) | headers(other))
            if headers(ours).get(name) != headers(other).get(name)
        }
        assert differing <= {"content-type"}
        assert headers(other).get("content-type", "application/json").startswith("application/json")
    conditions = {name: value for name, value in headers(ours).items() if name.startswith("if-")}
    assert headers(ours) == OURS[by] | conditions


def test_a_create_that_never_updates(trio):
    row_id = str(uuid.uuid4())
    ours = trio.sent(lambda: trio.ours.patch("tasks", row_id, {"subject": TEXT}, create_only=True))
    trio.sim.delete("tasks", row_id)
    request = {"collection": "tasks", "key": row_id, "data": {"subject": TEXT}, "ifnonematch": "*"}
    same(ours, trio.sent(lambda: trio.node.call("upsert", request)))
    assert headers(ours)["if-none-match"] == "*"


def test_an_update_of_one_version(trio):
    etag = trio.etag()
    ours = trio.sent(lambda: trio.ours.patch("tasks", trio.row, {"subject": TEXT}, if_match=etag))
    request = {"collection": "tasks", "key": trio.row, "data": {"subject": TEXT}, "ifmatch": etag}
    same(ours, trio.sent(lambda: trio.node.call("update", request)))
    assert headers(ours)["if-match"] == etag


def test_a_create_and_an_upsert_by_alternate_key(trio):
    ours = trio.sent(lambda: trio.ours.post("accounts", {"name": TEXT}))
    request = {"collection": "accounts", "data": {"name": TEXT}}
    same(
        ours,
        trio.sent(lambda: trio.sdk.records.create("account", {"name": TEXT})),
        trio.sent(lambda: trio.node.call("create", request)),
    )
    ours = trio.sent(lambda: trio.ours.patch("accounts", KEY, {"name": TEXT}))
    item = {"alternate_key": KEY, "record": {"name": TEXT}}
    same(
        ours,
        trio.sent(lambda: trio.sdk.records.upsert("account", [item])),
        trio.sent(lambda: trio.node.call("upsert", {**request, "key": NODE_KEY})),
    )
    # In the letter, too: quotes are doubled and not encoded, and all else is UTF-8 in percent.
    assert ours.target.endswith("/accounts(accountnumber='O''Neil%20%C3%BC')")


def test_reads(trio):
    row = {"collection": "tasks", "key": trio.row, "select": ["subject"]}
    same(
        trio.sent(lambda: trio.ours.get_row("tasks", trio.row, ["subject"])),
        trio.sent(lambda: trio.sdk.records.retrieve("task", trio.row, select=["subject"])),
        trio.sent(lambda: trio.node.call("retrieve", row)),
        by="read",
    )
    account = {"collection": "accounts", "key": NODE_KEY, "select": ["name"]}
    same(
        trio.sent(lambda: trio.ours.get_row("accounts", KEY, ["name"])),
        trio.sent(lambda: trio.node.call("retrieve", account)),
        by="read",
    )
    where = "subject eq 'O''Neil \u00fc & + %'"
    tasks = {"collection": "tasks", "select": ["subject"], "filter": where, "top": 2}
    ours = trio.sent(lambda: trio.ours.query("tasks", select=["subject"], where=where, top=2))
    sdk = trio.sent(lambda: trio.sdk.records.list("task", filter=where, select=["subject"], top=2))
    same(ours, sdk, trio.sent(lambda: trio.node.call("retrieveMultiple", tasks)), by="read")
    # "%24" for "$", and "+" for a space, as the SDK has them.
    assert ours.target == sdk.target


def parts(request):
    """Of each part: its own headers, the request's line, headers and body."""
    head = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
    message = email.message_from_bytes(head + request.body)
    [changes] = message.get_payload()
    found = []
    for item in changes.get_payload():
        line, _, rest = item.get_payload(decode=True).lstrip().partition(b"\n")
        inner = email.message_from_bytes(rest)
        found.append(
            (
                {name.lower(): value for name, value in item.items()},
                line.decode("ascii").strip(),
                {name.lower(): value for name, value in inner.items()},
                json.loads(inner.get_payload(decode=True)),
            )
        )
    return found


def test_change_sets(trio):
    row_id, etag, columns = str(uuid.uuid4()), trio.etag(), {"subject": TEXT}
    writes = [
        Part("tasks", row_id, columns, create_only=True),
        Part("tasks", trio.row, columns, if_match=etag),
        Part("tasks", trio.row, columns, update_only=True),
    ]
    ours = trio.sent(lambda: trio.ours.change_set(writes))
    trio.sim.delete("tasks", row_id)
    made = {"collection": "tasks", "key": row_id, "data": columns, "ifnonematch": "*"}
    row = {"collection": "tasks", "key": trio.row, "data": columns}
    calls = [("upsert", made), ("update", {**row, "ifmatch": trio.etag()}), ("update", row)]
    node = trio.sent(lambda: trio.node.batch(*calls))

    def by_the_sdk():
        batch = trio.sdk.batch.new()
        with batch.changeset() as changes:
            changes.records.update("task", trio.row, columns)
        batch.execute()

    sdk = trio.sent(by_the_sdk)
    for one in (ours, node, sdk):
        assert (one.method, one.target) == ("POST", "/api/data/v9.2/$batch")
        whole = headers(one)
        assert re.match(r"multipart/mixed; ?boundary=", whole.pop("content-type"))
        # They ask for application/json and mean parts; SAP CAP would answer that in JSON.
        assert whole.pop("accept") == (ANSWERS if one is ours else READ["accept"])
        assert whole | {"accept": READ["accept"]} == READ
        assert not re.search(rb"(?<!\r)\n", one.body), "every line ends with CRLF"
    for (outer, line, inner, body), (their_outer, their_line, their_inner, their_body) in zip(
        [*parts(ours), parts(ours)[-1]], [*parts(node), *parts(sdk)], strict=True
    ):
        assert set(outer) == set(their_outer) == {"content-type", "content-transfer-encoding", "content-id"}
        assert outer["content-type"] == their_outer["content-type"] == "application/http"
        # They send whole URLs; ours is an absolute path with a Host header, the second of the
        # three forms in OData 4.0 part 1, section 11.7.2, which the page's examples use, too.
        assert their_line.replace(ORGANIZATION, "").replace(trio.wire.url, "") == line
        assert inner.pop("host") == trio.wire.url.removeprefix("http://")
        # Errors within parts are JSON for every client, as for single requests.
        assert inner.pop("accept") == "application/json"
        # "; type=entry" of the SDK is a leaving of Atom.
        assert inner.pop("content-type") == their_inner.pop("content-type").partition(";")[0]
        assert set(inner) == set(their_inner)
        assert inner.get("if-none-match") == their_inner.get("if-none-match")
        assert body == their_body == columns
    assert [one[2].get("if-match") for one in parts(ours)] == [None, etag, "*"]
    assert [one[0]["content-id"] for one in parts(ours)] == ["1", "2", "3"]
