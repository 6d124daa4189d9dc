"""What is said of an error in artifacts and to people."""

import pytest

from tests.support.worlds import names
from writeahead.errors import Applied, InvalidInput, NotFound, NotReady, PermanentError, TransientError
from writeahead.protocol.messages import one_line


@pytest.mark.parametrize("kind", [PermanentError, NotReady, InvalidInput])
@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("PUT https://crm.example/rows failed", "PUT /rows failed"),
        ("PUT HTTPS://crm.example:8443/rows failed", "PUT /rows failed"),
        ("git+ssh://me@crm.example/rows", "/rows"),
        ("'https://crm.example' is down", "'' is down"),
        ('"wss://crm.example"', '""'),
        ("GET /rows?$filter=n eq 'planted'&sig=planted", "GET /rows"),
        ("GET https://crm.example?sig=planted", "GET "),
        ("GET /rows#token=planted is closed", "GET /rows is closed"),
        ("https://crm.example#token=planted", ""),
        ("pool(host='crm', port=443): slow", "pool(host, port=443): slow"),
        ('pool(host="crm", port=443): slow', "pool(host, port=443): slow"),
        ("refused: crm.example:443", "refused: host"),
        ("refused: 127.0.0.1:80 (a.b:1)", "refused: host (host)"),
        ("is it so? no: 3 of 4", "is it so? no: 3 of 4"),
        ("row #4 is locked at 10:30", "row #4 is locked at 10:30"),
    ],
)
def test_an_adapter_s_message_loses_hosts_and_queries(kind, said, kept):
    assert one_line(kind(said)) == kept


def test_a_message_of_ours_is_left_as_it_is():
    error = NotFound("s3://bucket", "get", "a", "see https://docs.example/x?y=1")
    assert one_line(error) == str(error)


def test_a_message_is_one_line_of_at_most_500_characters():
    assert one_line(PermanentError(" a\n\tb\r\n c ")) == "a b c"
    assert one_line(PermanentError("x" * 500)) == "x" * 500
    assert one_line(PermanentError("x" * 501)) == "x" * 500


@pytest.mark.parametrize(
    "said",
    [
        "HTTPSConnectionPool(host='crm.secret.example', port=443): Max retries: url: /x?token=planted",
        "PUT https://crm.secret.example/rows?sig=planted failed",
        "GET /rows?$filter=n eq 'planted'&sig=planted",
        "wss://crm.secret.example/x#tok=planted",
        "Connection refused: crm.secret.example:443",
    ],
)
def test_hosts_and_queries_in_an_adapters_message_reach_nobody(run, store, adapter, said):
    def fail(payload, operation):
        raise TransientError(said, applied=Applied.NO)

    adapter.emit_create = fail
    report = run("create")
    everything = report.model_dump_json() + "".join(store.get(name).data.decode() for name in names(store))
    assert "planted" not in everything
    assert "secret.example" not in everything
