"""A change set on the wire, byte for byte, and whatever may come back for it."""

import pytest

from tests.support.scripted_server import CLOSE, RESET, cut, refused, reply
from writeahead.adapters.dataverse import PermanentDataverseError, TransientDataverseError
from writeahead.adapters.dataverse.webapi.client import Part, PartResult
from writeahead.adapters.dataverse.webapi.errors import PreconditionFailed, RowNotFound
from writeahead.errors import Applied, InvalidInput

ROWS = [f"0f8b3f0e-52c5-5d0c-9a53-5b0b3a1c7d1{n}" for n in range(3)]
BATCH = "/api/data/v9.2/$batch"
PARTS = [
    Part("phonecalls", ROWS[0], {"subject": "planted \u00fc \r\n--batch"}, create_only=True),
    Part("wa_callqueues", ROWS[1], {"wa_status": 3}, if_match='W/"41"'),
    Part("wa_callqueues", ROWS[1], {"wa_attempts": 2}, update_only=True),
    Part("accounts", {"accountnumber": "O'Neil"}, {"name": None}),
]


def part(status, body=b"", *, number=None, **headers):
    """A response within a response."""
    lines = ["Content-Type: application/http", "Content-Transfer-Encoding: binary"]
    lines += [f"Content-ID: {number}"] if number is not None else []
    lines += ["", f"HTTP/1.1 {status} Whatever", "OData-Version: 4.0"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def multipart(parts, name):
    return b"".join(b"--%s\r\n%s\r\n" % (name, content) for content in parts) + b"--%s--\r\n" % name


def batch(parts, status=200, *, set_of=True):
    """The response to a batch; ``parts`` within a change set, or in its place."""
    if set_of:
        inner = b"Content-Type: multipart/mixed; boundary=changesetresponse_b\r\n\r\n"
        parts = [inner + multipart(parts, b"changesetresponse_b")]
    body = multipart(parts, b"batchresponse_a")
    return reply(status, body, Content_Type="multipart/mixed; boundary=batchresponse_a")


def error(code="", message="planted-message"):
    return b'{"error":{"code":"%s","message":"%s"}}' % (code.encode(), message.encode())


WRITTEN = [part(204, number=n, ETag=f'W/"{n}"') for n in range(1, 5)]


def failure(server, client, answer):
    server.script = [answer]
    with pytest.raises((PermanentDataverseError, TransientDataverseError)) as caught:
        client.change_set(PARTS)
    shown = str(caught.value) + repr(vars(caught.value)) + repr(caught.value.__context__)
    assert "planted" not in shown
    assert "Neil" not in shown
    return caught.value


def test_a_change_set_as_it_goes_over_the_wire(server, client):
    server.script = [batch(WRITTEN)]
    assert client.change_set(PARTS) == [PartResult(f'W/"{n}"') for n in range(1, 5)]
    [request] = server.requests
    assert (request.method, request.path, request.query) == ("POST", BATCH, "")
    # JSON would be the other format of a batch, to servers of OData 4.01.
    assert request.headers["accept"] == "multipart/mixed, application/json;q=0.9"
    media, _, outer = request.headers["content-type"].partition("; boundary=")
    assert media == "multipart/mixed"
    head, *parts, tail = request.body.decode("ascii").split("\r\n--changeset_")
    inner = head.rpartition("boundary=changeset_")[2].strip()
    assert head == f"--{outer}\r\nContent-Type: multipart/mixed; boundary=changeset_{inner}\r\n"
    assert tail == f"{inner}--\r\n--{outer}--\r\n"
    start = "Content-Type: application/http\r\nContent-Transfer-Encoding: binary\r\nContent-ID:"
    root = "/api/data/v9.2"
    kind = (
        f"HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nAccept: application/json\r\n"
        "Content-Type: application/json\r\n"
    )
    written = r'{"subject": "planted \u00fc \r\n--batch"}'
    assert [content.removeprefix(f"{inner}\r\n{start} ") for content in parts] == [
        f"1\r\n\r\nPATCH {root}/phonecalls({ROWS[0]}) {kind}If-None-Match: *\r\n\r\n{written}",
        f'2\r\n\r\nPATCH {root}/wa_callqueues({ROWS[1]}) {kind}If-Match: W/"41"\r\n\r\n{{"wa_status": 3}}',
        f'3\r\n\r\nPATCH {root}/wa_callqueues({ROWS[1]}) {kind}If-Match: *\r\n\r\n{{"wa_attempts": 2}}',
        f"4\r\n\r\nPATCH {root}/accounts(accountnumber='O''Neil') {kind}\r\n{{\"name\": null}}",
    ]


def test_results_are_in_the_order_of_the_parts(server, client):
    shuffled = [WRITTEN[2], WRITTEN[0], WRITTEN[3], WRITTEN[1]]
    bare = [part(204, ETag=f'W/"{n}"') for n in range(1, 5)]
    mixed = [
        part(200, b'{"@odata.etag": "W/\\"1\\"", "subject": "\xc3\xbc"}', Content_Type="application/json"),
        part(204),
        part(201, b"planted"),
        part(204, ETag="no-etag"),
    ]
    server.script = [batch(shuffled), batch(bare), batch(mixed), batch(WRITTEN).replace(b"\r\n", b"\n")]
    for _ in "ab":
        assert [result.etag for result in client.change_set(PARTS)] == [f'W/"{n}"' for n in range(1, 5)]
    assert [result.etag for result in client.change_set(PARTS)] == ['W/"1"', None, None, None]


REFUSALS = [
    (412, "", 1, PreconditionFailed, None),
    (412, "0x80060882", 2, PreconditionFailed, None),
    (412, "0x80040237", 1, PreconditionFailed, None),
    (412, "0x80040237", 2, PermanentDataverseError, None),
    (404, "0x80040217", 3, RowNotFound, None),
    (412, "", 4, PermanentDataverseError, None),
    (400, "", 4, PermanentDataverseError, None),
    (500, "0x80040333", 1, PermanentDataverseError, None),
    (500, "0x80044150", 2, TransientDataverseError, Applied.UNKNOWN),
    (503, "", 2, TransientDataverseError, Applied.UNKNOWN),
    (429, "0x80072322", 2, TransientDataverseError, Applied.NO),
]
SHAPES = {
    "in the place of the change set": lambda s, c, n: batch([part(s, error(c), number=n)], set_of=False),
    "within the change set": lambda s, c, n: batch([part(s, error(c), number=n)]),
    "with the status of the whole": lambda s, c, n: batch([part(s, error(c), number=n)], s),
    "as 400 of the whole": lambda s, c, n: batch([part(s, error(c), number=n)], 400, set_of=False),
    "number in the response": lambda s, c, n: batch([part(s, error(c), Content_ID=n)]),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("row", REFUSALS, ids=lambda row: f"{row[0]} {row[1]} {row[2]}")
def test_a_refused_part_is_found_in_every_shape(server, client, row, shape):
    status, code, number, kind, applied = row
    caught = failure(server, client, SHAPES[shape](status, code, number))
    assert type(caught) is kind
    assert getattr(caught, "applied", None) is applied
    assert caught.part == number - 1
    assert (caught.method, caught.status) == ("PATCH", status)
    assert PARTS[caught.part].entity_set in caught.path
    assert len(server.requests) == 1


@pytest.mark.parametrize("number", [None, 0, 5, "planted", 10**9])
def test_a_refusal_of_an_unknown_part(server, client, number):
    caught = failure(server, client, batch([part(412, error(), number=number)]))
    assert (type(caught), caught.part, caught.path) == (PreconditionFailed, None, BATCH)


@pytest.mark.parametrize(
    ("answer", "kind", "applied"),
    [
        (refused(412, "0x80060882"), PreconditionFailed, None),
        (refused(412), PreconditionFailed, None),
        (refused(400), PermanentDataverseError, None),
        (refused(500, "0x80040333"), PermanentDataverseError, None),
        (refused(404), RowNotFound, None),
        (reply(404, b"<html>planted</html>"), TransientDataverseError, Applied.UNKNOWN),
        (refused(429), TransientDataverseError, Applied.NO),
        (refused(503), TransientDataverseError, Applied.UNKNOWN),
        (refused(302), PermanentDataverseError, None),
        (batch(WRITTEN, 503), TransientDataverseError, Applied.UNKNOWN),
    ],
)
def test_a_refusal_of_the_whole(server, client, answer, kind, applied):
    caught = failure(server, client, answer)
    assert (type(caught), caught.part, caught.method) == (kind, None, "POST")
    assert getattr(caught, "applied", None) is applied


FOREIGN = {
    "nothing": reply(200, b"", Content_Type="multipart/mixed; boundary=batchresponse_a"),
    "a web page": reply(200, b"<html>planted</html>", Content_Type="text/html"),
    "JSON": reply(200, {"responses": []}),
    "204": reply(204),
    "no boundary": reply(200, b"--x\r\n\r\n--x--\r\n", Content_Type="multipart/mixed"),
    "another boundary": batch(WRITTEN).replace(b"boundary=batchresponse_a", b"boundary=batchresponse_b"),
    "no type": batch(WRITTEN).replace(b"Content-Type: multipart/mixed; boundary=batchresponse_a", b"X-Y: z"),
    "no HTTP in a part": batch(WRITTEN).replace(b"HTTP/1.1 204", b"planted! 204", 1),
    "another type of part": batch(WRITTEN).replace(b"application/http", b"application/json", 1),
    "one part short": batch(WRITTEN[:3]),
    "one part more": batch([*WRITTEN, WRITTEN[0]]),
    "a number twice": batch([*WRITTEN[:3], WRITTEN[0]]),
    "a number too high": batch([*WRITTEN[:3], part(204, number=7)]),
    "some without a number": batch([*WRITTEN[:3], part(204)]),
    "no parts": batch([]),
    "odd headers": batch([part(204, number=n, Content_Type='"; ()<@,;:\\') for n in range(1, 4)]),
    "deep": reply(
        200,
        b"--a\r\n" + b"Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n" * 3000,
        Content_Type="multipart/mixed; boundary=a",
    ),
    "reset": RESET,
    "closed": CLOSE,
    "cut by the network": cut(batch(WRITTEN), len(batch(WRITTEN)) - 9),
}


@pytest.mark.parametrize("answer", FOREIGN)
def test_an_answer_that_is_cut_or_foreign_leaves_it_open(server, client, answer):
    caught = failure(server, client, FOREIGN[answer])
    assert (type(caught), caught.applied) == (TransientDataverseError, Applied.UNKNOWN)


def test_a_body_cut_anywhere_is_never_a_success(client, server):
    """By a proxy that makes the length fit."""
    whole = batch(WRITTEN).partition(b"\r\n\r\n")[2]
    end = len(whole) - len(b"\r\n")  # what follows the last boundary says nothing
    for length in range(0, end, 7):
        body = reply(200, whole[:length], Content_Type="multipart/mixed; boundary=batchresponse_a")
        assert failure(server, client, body).applied is Applied.UNKNOWN


@pytest.mark.parametrize(
    "parts",
    [
        [],
        PARTS * 251,
        [Part("../x", ROWS[0], {"a": 1})],
        [Part("tasks", f"{ROWS[0]})\r\nX: y", {"a": 1})],
        [Part("tasks", ROWS[0], {"a": 1}, if_match="*")],
        [Part("tasks", ROWS[0], {"a": 1}, if_match='"a"\r\nX: y')],
    ],
    ids=range(6),
)
def test_what_can_not_be_sent(server, client, parts):
    with pytest.raises(InvalidInput):
        client.change_set(parts)
    assert server.requests == []


def test_throttling_within_a_batch_pauses_the_environment(server, client):
    server.script = [batch([part(429, error("0x80072322"), number=1, Retry_After=60)])]
    for _ in range(2):
        with pytest.raises(TransientDataverseError) as caught:
            client.change_set(PARTS)
        assert caught.value.applied is Applied.NO
        assert 59 < caught.value.retry_after <= 60
    assert len(server.requests) == 1
