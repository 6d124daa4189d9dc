"""What goes into a URL: alternate keys, metadata paths, links to next pages. Seen byte for byte."""

import pytest

from tests.support.scripted_server import TOKEN, ScriptedServer, refused, reply
from writeahead.adapters.dataverse import DataverseClient, PermanentDataverseError, TransientDataverseError
from writeahead.adapters.dataverse.webapi.errors import RowNotFound
from writeahead.errors import Applied, InvalidInput

ROOT = "/api/data/v9.2"
GUID = "0f8b3f0e-52c5-5d0c-9a53-5b0b3a1c7d11"


@pytest.mark.parametrize(
    ("key", "sent"),
    [
        ({"accountnumber": "X"}, "accountnumber='X'"),
        ({"other": 5, "accountnumber": "X"}, "accountnumber='X',other=5"),
        ({"number": "O'Neil"}, "number='O''Neil'"),
        ({"number": "a b,c=d)(é€"}, "number='a%20b%2Cc%3Dd%29%28%C3%A9%E2%82%AC'"),
        ({"number": "me@example.com"}, "number='me%40example.com'"),
        ({"on": True, "off": False, "n": -3}, "n=-3,off=false,on=true"),
        ({"rate": 1.5}, "rate=1.5"),
        ({"rate": 1e-7, "size": 2e16}, "rate=0.0000001,size=20000000000000000"),
        ({"size": -(2**40)}, "size=-1099511627776"),
        ({"_parentid_value": GUID.upper()}, f"_parentid_value={GUID}"),
    ],
)
def test_an_alternate_key_as_it_goes_over_the_wire(server, client, key, sent):
    server.script = [reply(204), reply(200, {"@odata.etag": 'W/"1"', "name": "n"})]
    client.patch("accounts", key, {"name": "n"})
    client.get_row("accounts", key, ["name"])
    assert [request.path for request in server.requests] == [f"{ROOT}/accounts({sent})"] * 2
    assert server.requests[1].query == "%24select=name"


@pytest.mark.parametrize(
    "key",
    [
        {},
        {"number": None},
        {"number": ""},
        {"Number": "x"},
        {"number')/x(y": "x"},
        {"number='a',b": "x"},
        {"_parentid_value": "planted"},
        {"_parentid_value": 5},
        {"number": "\ud800planted"},
        {"number": 'planted"\n'},
        *({"number": f"planted{sign}x"} for sign in "/<>*%&:\\?+#\x00\x7f"),
    ],
)
def test_what_is_no_key_is_never_sent(server, client, key):
    for action in (
        lambda: client.patch("accounts", key, {"name": "n"}),
        lambda: client.get_row("accounts", key, ["name"]),
    ):
        with pytest.raises(InvalidInput) as caught:
            action()
        assert "planted" not in str(caught.value)
    assert server.requests == []


@pytest.mark.parametrize("answer", [refused(400), refused(503), b"no HTTP\r\n\r\n", reply(200, b"{")])
def test_an_error_names_key_columns_and_not_their_values(server, client, answer):
    server.script = [answer]
    with pytest.raises((PermanentDataverseError, TransientDataverseError)) as caught:
        client.patch("accounts", {"number": "planted", "other": 5}, {"name": "n"})
    assert caught.value.path == f"{ROOT}/accounts(number=...,other=...)"
    assert "planted" not in repr(vars(caught.value)) + str(caught.value)


@pytest.mark.parametrize(
    "path",
    [
        "/EntityDefinitions",
        "/EntityDefinitions(LogicalName='phonecall')/Attributes",
        f"/EntityDefinitions({GUID})",
        "/EntityDefinitions(LogicalName='task')/Attributes/Microsoft.Dynamics.CRM.PicklistAttributeMetadata",
        "/WhoAmI",
    ],
)
def test_reading_metadata(server, client, path):
    server.script = [reply(200, {"LogicalName": "task"})]
    params = {"$select": "LogicalName", "$expand": "Keys"}
    assert client.get_json(path, params) == {"LogicalName": "task"}
    [request] = server.requests
    assert (request.method, request.path) == ("GET", ROOT + path)
    assert request.query == "%24select=LogicalName&%24expand=Keys"


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "EntityDefinitions",
        "//evil.example",
        "/http://evil.example/",
        "/a/../b",
        "/..",
        "/a/./b",
        "/a//b",
        "/a/",
        "/a?x=1",
        "/a#x",
        "/a%2e%2e",
        "/a\\b",
        "/a(b='c/d')",
        "/a b",
        "/a\n",
        "/a;b",
        "/a@evil.example",
        "/ä",
        "/a" * 9,
        None,
        b"/a",
    ],
)
def test_what_is_no_path_is_never_sent(server, client, path):
    with pytest.raises(InvalidInput):
        client.get_json(path)
    assert server.requests == []


def test_a_resource_that_is_not_there(server, client):
    server.script = [refused(404, "0x80060888")]
    with pytest.raises(RowNotFound):
        client.get_json("/EntityDefinitions(LogicalName='nothing')")


def test_pages_are_read_to_the_end(server, client):
    link = f"{server.url}{ROOT}/teams?$select=teamid&$skiptoken=%3Ccookie%20pagenumber=%222%22%20/%3E"
    server.script = [
        reply(200, {"value": [{"a": 1}], "@odata.nextLink": link}),
        reply(200, {"value": [{"a": 2}], "@odata.nextLink": "teams?$skiptoken=3"}),
        reply(200, {"value": [{"a": 3}]}),
    ]
    assert client.get_json("/teams", {"$select": "teamid"}) == {"value": [{"a": 1}, {"a": 2}, {"a": 3}]}
    assert [request.path for request in server.requests] == [ROOT + "/teams"] * 3
    assert server.requests[1].query == link.partition("?")[2]
    assert server.requests[2].headers["authorization"] == f"Bearer {TOKEN}"


def test_a_link_to_elsewhere_gets_no_token(server, client):
    with ScriptedServer() as elsewhere:
        links = [
            f"{elsewhere.url}{ROOT}/teams?$skiptoken=2",
            f"//127.0.0.1:{elsewhere.port}{ROOT}/teams",
            f"http://planted@127.0.0.1:{server.port}{ROOT}/teams",
            f"{server.url}/api/data/v9.1/teams",
            f"{server.url}{ROOT}/../../teams",
            f"{server.url}{ROOT}/%2e%2e/teams",
            f"{server.url.replace('http', 'https')}{ROOT}/teams",
            "http://[",
            7,
            {},
        ]
        for link in links:
            server.requests.clear()
            server.script = [reply(200, {"value": [], "@odata.nextLink": link}), reply(200, {"value": []})]
            with pytest.raises(TransientDataverseError) as caught:
                client.get_json("/teams")
            assert caught.value.applied is Applied.NO
            assert "planted" not in str(caught.value)
            assert len(server.requests) == 1
        assert elsewhere.requests == []


@pytest.mark.parametrize("pages", [[{"value": 3}], [{"value": []}, {"other": 1}], [{"value": []}, []]])
def test_a_page_of_another_form(server, client, pages):
    link = f"{ROOT}/teams?$skiptoken=2"
    first, *rest = pages
    server.script = [reply(200, {**first, "@odata.nextLink": link}), *(reply(200, page) for page in rest)]
    server.script += [reply(200, {"value": []})] * 2
    with pytest.raises(TransientDataverseError):
        client.get_json("/teams")


def test_pages_in_a_circle_end(monkeypatch):
    monkeypatch.setattr("writeahead.adapters.dataverse.webapi.client._MOST_PAGES", 3)
    with ScriptedServer() as server:
        client = DataverseClient(server.url, lambda: TOKEN)
        server.script = [reply(200, {"value": [], "@odata.nextLink": "teams"})] * 9
        with pytest.raises(TransientDataverseError):
            client.get_json("/teams")
        assert len(server.requests) == 4
        client.close()


def test_all_pages_together_have_a_limit(server, client, monkeypatch):
    monkeypatch.setattr("writeahead.adapters.dataverse.webapi.client._MOST_BYTES", 3000)
    page = {"value": [{"name": "x" * 1000}], "@odata.nextLink": "teams"}
    server.script = [reply(200, page)] * 9
    with pytest.raises(TransientDataverseError):
        client.get_json("/teams")
    assert len(server.requests) == 3
