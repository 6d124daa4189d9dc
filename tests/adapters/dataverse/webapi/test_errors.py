"""Which error each reply becomes: by its code, its status and the request. On real sockets."""

import pytest

from tests.support.scripted_server import refused, reply
from writeahead.adapters.dataverse import PermanentDataverseError, TransientDataverseError
from writeahead.adapters.dataverse.webapi.errors import PreconditionFailed, RowNotFound, TableNotFound
from writeahead.errors import Applied, PermanentError, TransientError

ROW = "0f8b3f0e-52c5-5d0c-9a53-5b0b3a1c7d11"
ID = "8fd35fd6-5329-4bd5-a1b7-757f91822322"
PATH = f"/api/data/v9.2/tasks({ROW})"
COLUMNS = {"subject": "planted-subject"}

REQUESTS = {
    "create": lambda client: client.patch("tasks", ROW, COLUMNS, create_only=True),
    "update": lambda client: client.patch("tasks", ROW, COLUMNS, if_match='W/"1"'),
    "upsert": lambda client: client.patch("tasks", ROW, COLUMNS),
    "post": lambda client: client.post("tasks", COLUMNS),
    "read": lambda client: client.query("tasks", select=["subject"], where="a eq 1", top=1),
}
WRITES = ("create", "update", "upsert", "post")
CONDITIONAL = ("create", "update")

PERMANENT, NOT_FOUND, FAILED = PermanentDataverseError, RowNotFound, PreconditionFailed
# A read takes effect nowhere, so "unknown" becomes "no" for it.
UNKNOWN, NO = Applied.UNKNOWN, Applied.NO

# status, code: what it is for each request; one kind for all requests, or by request with a rest
# for ""
TABLE = [
    # by the status alone: the code is "frequently empty"
    (302, "", PERMANENT),
    (307, "", PERMANENT),
    (400, "", PERMANENT),
    (403, "", PERMANENT),
    (404, "", NOT_FOUND),
    (405, "", PERMANENT),
    (408, "", UNKNOWN),
    (409, "", PERMANENT),
    (412, "", {"create": FAILED, "update": FAILED, "": PERMANENT}),
    (413, "", PERMANENT),
    (429, "", NO),
    (500, "", UNKNOWN),
    (501, "", PERMANENT),
    (502, "", UNKNOWN),
    (503, "", UNKNOWN),
    (504, "", UNKNOWN),
    (599, "", UNKNOWN),
    # duplicate detection, in both statuses that it was seen with
    (500, "0x80040333", PERMANENT),
    (412, "0x80040333", PERMANENT),
    (500, "-2147220685", PERMANENT),
    # another row has the same alternate key
    (412, "0x80060892", PERMANENT),
    (500, "0x80060892", PERMANENT),
    (429, "0x80060892", PERMANENT),
    # a unique key is taken: the row's own one if absence was demanded
    (412, "0x80040237", {"create": FAILED, "": PERMANENT}),
    (500, "0x80040237", PERMANENT),
    (400, "0x80040237", PERMANENT),
    # another version
    (412, "0x80060882", {"create": FAILED, "update": FAILED, "": PERMANENT}),
    (500, "0x80060882", {"create": FAILED, "update": FAILED, "": PERMANENT}),
    (400, "0x8006088D", PERMANENT),
    # deadlock, SQL time-out, rolled back by a deadlock
    (400, "0x80044150", UNKNOWN),
    (412, "0x80044150", UNKNOWN),
    (500, "0x80044151", UNKNOWN),
    (400, "-2147204783", UNKNOWN),
    (400, "0x80040255", UNKNOWN),
    (404, "0x80040255", UNKNOWN),
    # throttled, whatever the status
    (403, "0x80072322", NO),
    (500, "-2147015903", NO),
    (503, "0x80072326", NO),
    (429, "0x80072321", NO),
    # an administrator has closed the environment: refused at the door
    (403, "0x8004A104", NO),
    (404, "0x8004a104", NO),
    (401, "0x8004a113", NO),
    (403, "-2147180269", NO),
    (500, "0x8004a107", NO),
    (503, "0x8004b044", NO),
    # storage, busy databases and locks, other operations, plug-ins that take too long or can't run
    (400, "0x80072325", UNKNOWN),
    (403, "0x8004a001", UNKNOWN),
    (400, "0x80072323", UNKNOWN),
    (400, "0x80072324", UNKNOWN),
    (400, "0x80044339", UNKNOWN),
    (400, "0x8004ed47", UNKNOWN),
    (400, "0x80071151", UNKNOWN),
    (400, "0x80048543", UNKNOWN),
    (400, "0x80044172", UNKNOWN),
    (400, "0x80081111", UNKNOWN),
    (404, "0x8004418d", UNKNOWN),
    (403, "0x80072300", UNKNOWN),
    # refused for what it is, whatever the status
    (400, "0x80040265", PERMANENT),
    (500, "0x80040265", PERMANENT),
    (500, "0x80048408", PERMANENT),
    (500, "0x80040220", PERMANENT),
    (500, "0x80044331", PERMANENT),
    (500, "0x80040203", PERMANENT),
    # a plug-in's exception that it did not mean to throw: by the status
    (400, "0x80040224", PERMANENT),
    (500, "0x80040224", UNKNOWN),
    # not there
    (400, "0x80040217", NOT_FOUND),
    (500, "0x80040217", NOT_FOUND),
    (404, "0x80060891", NOT_FOUND),
    (404, "0x8006088a", TableNotFound),
    # unknown codes: by the status
    (400, "0x80048D19", PERMANENT),
    (400, "0x0", PERMANENT),
    (500, "0x0", UNKNOWN),
    (500, "0x80040216", UNKNOWN),
    (404, "0x80060888", NOT_FOUND),
    (503, "planted-code", UNKNOWN),
    (503, 5, UNKNOWN),
    (503, None, UNKNOWN),
]


def expected(row, request):
    kind = row[2]
    if isinstance(kind, dict):
        kind = kind.get(request, kind[""])
    if isinstance(kind, Applied):
        return TransientDataverseError, NO if request == "read" else kind
    return kind, None


def answered(server, client, request, answer):
    server.script = [answer]
    with pytest.raises((TransientError, PermanentError)) as caught:
        REQUESTS[request](client)
    assert len(server.requests) == 1, caught.value
    assert "planted" not in str(caught.value) + repr(vars(caught.value))
    return caught.value


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row[0]} {row[1]}")
@pytest.mark.parametrize("request_", REQUESTS)
def test_every_answer_to_every_request(server, client, request_, row):
    status, code, _ = row
    kind, applied = expected(row, request_)
    caught = answered(server, client, request_, refused(status, code, Location="http://evil.example/"))
    assert type(caught) is kind
    assert getattr(caught, "applied", None) is applied
    assert caught.status == status


def test_an_error_says_which_request_it_was_and_what_came_back(server, client):
    caught = answered(server, client, "update", refused(500, "-2147204783", x_ms_service_request_id=ID))
    assert (caught.method, caught.path, caught.status) == ("PATCH", PATH, 500)
    assert caught.code == "0x80044151"
    assert str(caught) == f"PATCH {PATH}: HTTP 500, 0x80044151, request id {ID}"


BODIES = [
    b"",
    b"<html>planted</html>",
    b"[]",
    b'{"error": 3}',
    b'{"error": "planted"}',
    b'{"Message": "planted"}',
    b"\xff",
    b"[" * 100_000,
    b'{"error": {"code": "0x80040333"',
]


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
@pytest.mark.parametrize(
    ("status", "kind"), [(400, PERMANENT), (412, FAILED), (429, NO), (500, UNKNOWN), (503, UNKNOWN)]
)
def test_a_body_of_no_known_form_goes_by_its_status(server, client, body, status, kind):
    caught = answered(server, client, "update", reply(status, body))
    if isinstance(kind, Applied):
        assert (type(caught), caught.applied) == (TransientDataverseError, kind)
    else:
        assert type(caught) is kind


@pytest.mark.parametrize("body", BODIES[:-1], ids=range(len(BODIES) - 1))
@pytest.mark.parametrize("request_", REQUESTS)
def test_a_404_of_another_server_is_no_missing_row(server, client, body, request_):
    caught = answered(server, client, request_, reply(404, body))
    assert type(caught) is TransientDataverseError
    assert "DATAVERSE_URL" in str(caught)
    assert caught.applied is (NO if request_ == "read" else UNKNOWN)


def test_a_row_is_missing_only_when_dataverse_says_so(server, client):
    server.script = [refused(404, "0x80040217"), reply(404, b"<html>planted</html>")]
    assert client.get_row("tasks", ROW, ["subject"]) is None
    with pytest.raises(TransientDataverseError):
        client.get_row("tasks", ROW, ["subject"])
