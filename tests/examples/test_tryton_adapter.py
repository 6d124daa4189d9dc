"""How the Tryton adapter sorts a server's replies; `nox -s peers` tries a real server."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from pydantic import SecretStr
from tryton import TrytonAdapter, adapter_from_settings

from writeahead.adapters.registry import open_adapter
from writeahead.errors import (
    Applied,
    ConflictError,
    InvalidInput,
    NotReady,
    PermanentError,
    TransientError,
)
from writeahead.model import KeyedOperation, ReplayClass, idempotency_key

PASSWORD, WORDS = "planted-password", "planted words out of a record"
LOGIN = [7, "planted-session-key", None]
CREATE, SEARCH = "model.party.party.create", "model.party.party.search_read"


class Script(ThreadingHTTPServer):
    """Answers what it is told, method by method, and keeps what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        self.answers: dict[str, list] = {"common.db.login": [(200, LOGIN)], SEARCH: [(200, [])]}
        self.asked: list[tuple[str, list, str | None]] = []
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"

    def tell(self, method: str, *answers) -> None:
        """Each: a status and a result, ``{"error": ...}`` or bytes; the last one is repeated."""
        self.answers[method] = list(answers)

    def count(self, method: str) -> int:
        return [asked[0] for asked in self.asked].count(method)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((asked["method"], asked["params"], self.headers["Authorization"]))
        planned = self.server.answers[asked["method"]]
        status, said, *headers = planned.pop(0) if len(planned) > 1 else planned[0]
        if not isinstance(said, bytes):
            errs = isinstance(said, dict) and "error" in said
            said = json.dumps({"id": asked["id"], **(said if errs else {"result": said})}).encode()
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with Script() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def adapter(server):
    made = TrytonAdapter(server.url, "crm", "service", SecretStr(PASSWORD), timeout=5)
    yield made
    made.close()


def keyed(kind, payload):
    key = idempotency_key("s1", f"1-{kind}")
    return KeyedOperation(session_id="s1", id=f"1-{kind}", kind=kind, key=key, payload=payload)


def planned(adapter, kind="party", payload=None):
    [operation] = adapter.plan([keyed(kind, payload or {"name": "Ada"})])
    return operation


REFUSED = {"error": ["UserError", [WORDS, "", None]]}


def test_a_party_is_created_under_the_key(server, adapter):
    server.tell(CREATE, (200, [12]))
    operation = planned(adapter)
    assert adapter.emit(operation).remote_id == "party.party,12"
    method, parameters, session = server.asked[-1]
    assert (method, parameters) == (CREATE, [[{"name": "Ada", "code": operation.key}], {}])
    assert session.startswith("Session ")


@pytest.mark.parametrize(
    ("answer", "kind", "applied"),
    [
        ((429, b"", ("Retry-After", "7")), TransientError, Applied.NO),
        ((408, b""), TransientError, Applied.UNKNOWN),
        ((500, WORDS.encode()), TransientError, Applied.UNKNOWN),
        ((503, b""), TransientError, Applied.UNKNOWN),
        *(((status, b""), TransientError, Applied.UNKNOWN) for status in (202, 204, 302)),
        ((501, b""), PermanentError, None),
        ((403, WORDS.encode()), PermanentError, None),
        ((200, WORDS.encode()), TransientError, Applied.UNKNOWN),
        ((200, b'{"id": 1, "resu'), TransientError, Applied.UNKNOWN),
        ((200, None), TransientError, Applied.UNKNOWN),
        ((200, ["12"]), TransientError, Applied.UNKNOWN),
        ((200, {"error": ["'res.user'", WORDS]}), TransientError, Applied.UNKNOWN),
        ((200, {"error": WORDS}), TransientError, Applied.UNKNOWN),
        ((200, {"error": ["LoginException", [WORDS]]}), NotReady, None),
        ((200, REFUSED), PermanentError, None),
        ((200, {"error": ["UserWarning", [WORDS, WORDS, ""]]}), PermanentError, None),
        ((401, b""), NotReady, None),
    ],
    ids=str,
)
def test_what_a_server_says_is_sorted_and_not_repeated(server, adapter, answer, kind, applied):
    server.tell(CREATE, answer)
    server.tell(SEARCH, (200, []))
    with pytest.raises(kind) as caught:
        adapter.emit(planned(adapter))
    assert getattr(caught.value, "applied", None) is applied
    if answer[0] == 429:
        assert caught.value.retry_after == 7
    for word in (PASSWORD, WORDS, "planted-session-key", server.url):
        assert word not in repr(caught.value)
        assert word not in str(caught.value)


@pytest.mark.parametrize(("creator", "outcome"), [(7, "already_applied"), (1, ConflictError)])
def test_who_made_the_party_that_is_there(server, adapter, creator, outcome):
    server.tell(CREATE, (200, REFUSED))
    server.tell(SEARCH, (200, []), (200, [{"id": 12, "create_uid": creator}]))
    operation = planned(adapter)
    if isinstance(outcome, str):
        assert adapter.emit(operation).outcome == outcome
    else:
        with pytest.raises(outcome):
            adapter.emit(operation)


@pytest.mark.parametrize(("name", "same"), [("Ada", True), ("Grace", False)])
def test_a_party_that_was_there_before_the_plan(server, adapter, name, same):
    server.tell(SEARCH, (200, [{"id": 12, "name": name}]))
    if same:
        assert planned(adapter).replay is ReplayClass.CREATE_WITH_KEY
    else:
        with pytest.raises(ConflictError, match="a session of this id made another") as caught:
            planned(adapter)
        assert name not in str(caught.value)
    assert server.count(CREATE) == 0


NOTE = {"about": "party.party,12", "text": "call back"}


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        ([], None),
        (["call back"], 1),
        (["do not call"], ConflictError),
        (["do not call", "call back"], 2),
    ],
)
def test_a_note_is_found_by_key_and_text(server, adapter, texts, found):
    operation = planned(adapter, "note", NOTE)
    notes = [
        {"id": n, "message": f"{text}\r\n\r\nReference: {operation.key}"} for n, text in enumerate(texts, 1)
    ]
    server.tell("model.ir.note.search_read", (200, notes))
    if found is ConflictError:
        with pytest.raises(ConflictError, match="other content"):
            adapter.find(operation)
    else:
        receipt = adapter.find(operation)
        assert (receipt and receipt.remote_id) == (found and f"ir.note,{found}")


def test_the_target_is_server_database_and_user(server):
    def target(url=server.url, database="crm", user="service", password=PASSWORD):
        made = TrytonAdapter(url, database, user, SecretStr(password))
        made.close()
        return made.target()

    assert target(password="planted-new-password") == target(f"{server.url}/") == target()
    others = [target("https://erp.example.com"), target(database="other"), target(user="other")]
    assert len({target(), *others}) == 4
    assert server.asked == []


def test_a_session_that_expired_is_renewed_once(server, adapter):
    server.tell(CREATE, (401, b""), (200, [12]))
    assert adapter.emit(planned(adapter)).remote_id == "party.party,12"
    assert (server.count("common.db.login"), server.count(CREATE)) == (2, 2)


ADDRESS = {"address_id": 3, "city": "Bonn", "postal_code": "53111"}
WRITE, READ = "model.party.address.write", "model.party.address.search_read"
CHANGED = {"error": ["ConcurrencyException", ["planted words out of a record"]]}


def address(city="Berlin", postal_code="10115", timestamp="1.5"):
    return [{"id": 3, "_timestamp": timestamp, "city": city, "postal_code": postal_code}]


def test_an_update_names_the_version_that_planning_saw(server, adapter):
    server.tell(READ, (200, address()))
    server.tell(WRITE, (200, None))
    operation = planned(adapter, "address_update", ADDRESS)
    assert operation.replay is ReplayClass.CONDITIONAL_UPDATE
    assert adapter.emit(operation).remote_id == "party.address,3"
    columns = {"city": "Bonn", "postal_code": "53111"}
    assert server.asked[-1][1] == [[3], columns, {"_timestamp": {"party.address,3": "1.5"}}]


def test_an_update_is_rebased_on_an_edit_elsewhere(server, adapter):
    server.tell(READ, (200, address()), (200, address(timestamp="2.5")))
    server.tell(WRITE, (200, CHANGED), (200, None))
    assert adapter.emit(planned(adapter, "address_update", ADDRESS)).outcome == "applied"
    assert server.asked[-1][1][2] == {"_timestamp": {"party.address,3": "2.5"}}


@pytest.mark.parametrize(
    ("now", "outcome"),
    [
        (address("Bonn", "53111", "2.5"), "already_applied"),
        (address("Ulm", "10115", "2.5"), "changed since the plan: city$"),
        ([], "is gone"),
    ],
)
def test_an_update_that_is_refused_is_read_back(server, adapter, now, outcome):
    server.tell(READ, (200, address()), (200, now))
    server.tell(WRITE, (200, CHANGED))
    operation = planned(adapter, "address_update", ADDRESS)
    if outcome == "already_applied":
        assert adapter.emit(operation).outcome == outcome
    else:
        with pytest.raises(ConflictError, match=outcome):
            adapter.emit(operation)
    assert server.count(WRITE) == 1


LOADED = [{"id": 3, "_timestamp": "1.5", "attn": None, "city": "Berlin", "postal_code": "10115"}]


def with_baseline(adapter, baseline):
    asked = keyed("address_update", ADDRESS).model_copy(update={"baseline": baseline})
    [operation] = adapter.plan([asked])
    return operation


def loaded(server, adapter):
    """What a host has read, as it kept it."""
    server.tell(READ, (200, LOADED))
    return json.loads(adapter.read_baseline(3).model_dump_json())


@pytest.mark.parametrize(
    ("now", "outcome"),
    [
        (address("Ulm", "10115", "2.5"), "1-address_update: .*changed since it was loaded: city$"),
        ([], "1-address_update: .*gone since it was loaded"),
    ],
)
def test_an_edit_since_the_load_is_a_conflict(server, adapter, now, outcome):
    baseline = loaded(server, adapter)
    server.tell(READ, (200, now))
    with pytest.raises(ConflictError, match=outcome):
        with_baseline(adapter, baseline)
    assert server.count(WRITE) == 0


@pytest.mark.parametrize(
    "now",
    [
        address(),
        address(timestamp="2.5"),  # an edit elsewhere in the record
        address("Bonn", "53111", "2.5"),  # as ours
    ],
)
def test_a_plan_has_the_version_that_it_found(server, adapter, now):
    baseline = loaded(server, adapter)
    server.tell(READ, (200, now))
    assert with_baseline(adapter, baseline).precondition["timestamp"] == now[0]["_timestamp"]


@pytest.mark.parametrize("timestamp", ["1.5", "2.5"])
def test_a_baseline_of_another_version_must_have_all_that_is_written(server, adapter, timestamp):
    server.tell(READ, (200, address()))
    baseline = {"timestamp": timestamp, "columns": {"city": "Berlin"}}
    if timestamp == "1.5":
        assert with_baseline(adapter, baseline).precondition["timestamp"] == "1.5"
    else:
        with pytest.raises(ConflictError, match=r"postal_code$"):
            with_baseline(adapter, baseline)


def test_a_baseline_has_lines_that_can_be_written_only(server, adapter):
    server.tell(READ, (200, address()))
    with pytest.raises(InvalidInput, match="baseline of the wrong shape"):
        with_baseline(adapter, {"timestamp": "1.5", "columns": {"street": "x"}})


def test_an_address_that_is_not_there_has_no_baseline(server, adapter):
    server.tell(READ, (200, []))
    assert adapter.read_baseline(3) is None


def test_an_address_is_updated_once_in_a_session(server, adapter):
    twice = [keyed("address_update", {**ADDRESS, "city": city}) for city in ("Bonn", "Ulm")]
    with pytest.raises(InvalidInput, match=r"party\.address,3 is updated twice"):
        adapter.plan(twice)
    assert server.asked == []


def test_an_address_that_does_not_exist_or_nothing_to_set(server, adapter):
    server.tell(READ, (200, []))
    with pytest.raises(NotReady, match="3 does not exist"):
        planned(adapter, "address_update", ADDRESS)
    with pytest.raises(InvalidInput, match="nothing to set"):
        planned(adapter, "address_update", {"address_id": 3})


def test_a_login_that_is_refused_stops_the_planning(server, adapter):
    server.tell("common.db.login", (401, b""))
    with pytest.raises(NotReady, match="TRYTON_PASSWORD") as caught:
        planned(adapter)
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "TRYTON_URL, TRYTON_DATABASE, TRYTON_USER, TRYTON_PASSWORD not set"),
        ({"TRYTON_URL": "http://erp.example.com"}, "TRYTON_URL must begin with https"),
        ({"TRYTON_DATABASE": "../crm"}, "TRYTON_DATABASE must be"),
    ],
)
def test_bad_settings(settings, said):
    good = {
        "TRYTON_URL": "https://erp.example.com",
        "TRYTON_DATABASE": "crm",
        "TRYTON_USER": "service",
        "TRYTON_PASSWORD": PASSWORD,
    }
    with pytest.raises(InvalidInput, match=said):
        adapter_from_settings(environ={**good, **settings} if settings else {})


@pytest.mark.parametrize(("name", "value"), [("url", 7), ("user", ["x"]), ("password", "planted-password")])
def test_settings_of_the_wrong_kind(name, value):
    with pytest.raises(InvalidInput, match=name) as caught:
        open_adapter("tryton:adapter_from_settings", {name: value})
    assert "planted" not in str(caught.value)


def test_it_is_opened_by_its_module_and_factory():
    settings = {"url": "https://erp.example.com", "database": "crm", "user": "service"}
    with pytest.raises(InvalidInput, match="TRYTON_PASSWORD not set"):
        open_adapter("tryton:adapter_from_settings", settings)
