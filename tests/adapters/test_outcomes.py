"""Retry-After in both forms; what a reply, or none, says of a request."""

from datetime import UTC, datetime

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from writeahead.adapters.http import applied_despite, remote_errors, require_status, retry_after_seconds
from writeahead.errors import LONGEST_WAIT, Applied, NotReady, PermanentError, TransientError

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
SECRET = "s3cr3t-token"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        (" 7 ", 7.0),
        ("0", 0.0),
        ("Sun, 22 Nov 2026 12:00:30 GMT", 30.0),  # IMF-fixdate
        ("Sunday, 22-Nov-26 12:00:30 GMT", 30.0),  # RFC 850
        ("Sun Nov 22 12:00:30 2026", 30.0),  # asctime
        ("Sun, 22 Nov 2026 11:00:00 GMT", 0.0),  # past
        ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST_WAIT),
        ("9" * 5000, LONGEST_WAIT),
        ("", None),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("١٢", None),
        ("Sun, 99 Nov 2026 12:00:30 GMT", None),
    ],
)
def test_retry_after(value, seconds):
    assert retry_after_seconds({"retry-after": value}, NOW) == seconds


def test_a_date_is_measured_against_the_servers_own_clock():
    headers = httpx.Headers(
        {"Retry-After": "Thu, 01 Jan 2026 00:01:00 GMT", "Date": "Thu, 01 Jan 2026 00:00:00 GMT"}
    )
    assert retry_after_seconds(headers, NOW) == 60.0


def test_no_header_is_no_wait():
    assert retry_after_seconds({}) is None


@given(st.text(max_size=60))
def test_retry_after_never_raises(value):
    seconds = retry_after_seconds({"retry-after": value}, NOW)
    assert seconds is None or 0 <= seconds <= LONGEST_WAIT


@pytest.mark.parametrize("error", [httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout])
def test_without_a_connection_nothing_was_applied(error):
    assert applied_despite(error("x")) is Applied.NO


@pytest.mark.parametrize(
    "error",
    [
        httpx.ReadError,
        httpx.ReadTimeout,
        httpx.WriteError,
        httpx.WriteTimeout,
        httpx.RemoteProtocolError,
        httpx.CloseError,
        httpx.DecodingError,
    ],
)
def test_after_a_connection_the_outcome_is_unknown(error):
    assert applied_despite(error("x")) is Applied.UNKNOWN


def put(answer):
    """What an adapter would raise that sends one request, with secrets in it; None if nothing."""

    def handle(request):
        if isinstance(answer, Exception):
            raise answer
        return answer

    headers = {"Authorization": f"Bearer {SECRET}"}
    with httpx.Client(transport=httpx.MockTransport(handle), headers=headers) as http:
        try:
            with remote_errors("PUT /rows"):
                reply = http.put(f"https://crm.example/rows/{SECRET}", json={"text": SECRET})
                require_status(reply, 201, 204)
        except (TransientError, PermanentError, NotReady) as error:
            return error
    return None


@pytest.mark.parametrize("status", [201, 204])
def test_what_the_remote_answers_on_success_is_no_error(status):
    assert put(httpx.Response(status)) is None


# 200 and 302 are a login page's or a proxy's: this remote says neither.
@pytest.mark.parametrize("status", [102, 200, 202, 302, 304, 408, 500, 501, 502, 503, 504, 599])
def test_a_status_that_refuses_nothing_leaves_the_outcome_unknown(status):
    error = put(httpx.Response(status))
    assert (type(error), error.applied, str(error)) == (
        TransientError,
        Applied.UNKNOWN,
        f"PUT /rows: HTTP {status}",
    )


@pytest.mark.parametrize(("status", "applied"), [(429, Applied.NO), (503, Applied.UNKNOWN)])
def test_a_wait_that_is_asked_for_is_kept(status, applied):
    error = put(httpx.Response(status, headers={"Retry-After": "7"}))
    assert (error.applied, error.retry_after) == (applied, 7.0)


@pytest.mark.parametrize("status", [400, 403, 404, 405, 409, 410, 412, 413, 422, 451])
def test_a_refusal_is_permanent_and_names_the_status(status):
    error = put(httpx.Response(status, json={"error": SECRET}))
    assert (type(error), str(error)) == (PermanentError, f"PUT /rows: HTTP {status}")


@pytest.mark.parametrize("status", [401, 407])
def test_refused_credentials_are_not_ready(status):
    error = put(httpx.Response(status))
    assert (type(error), str(error)) == (NotReady, f"PUT /rows: HTTP {status}: the credentials were refused")


@pytest.mark.parametrize(
    ("raised", "applied"),
    [
        (httpx.ConnectError(SECRET), Applied.NO),
        (httpx.ReadTimeout(SECRET), Applied.UNKNOWN),
        (httpx.RemoteProtocolError(SECRET), Applied.UNKNOWN),
        (httpx.StreamClosed(), Applied.UNKNOWN),
    ],
)
def test_no_reply_is_tried_again(raised, applied):
    error = put(raised)
    assert (type(error), error.applied) == (TransientError, applied)
    assert str(error) == f"PUT /rows: {type(raised).__name__}"


def test_a_url_that_is_none_was_not_sent():
    with pytest.raises(PermanentError, match=r"^PUT /rows: InvalidURL$"), remote_errors("PUT /rows"):
        httpx.put("https://crm.example:port/")


@pytest.mark.parametrize("answer", [httpx.Response(503), httpx.ReadTimeout("x"), httpx.Response(404)])
def test_the_error_does_not_hold_the_request(answer):
    error = put(answer)
    assert (error.__context__, error.__cause__) == (None, None)


def test_httpx_own_check_of_a_status_is_understood():
    reply = httpx.Response(404, request=httpx.Request("PUT", "https://crm.example"))
    with pytest.raises(PermanentError, match=r"^PUT /rows: HTTP 404$"), remote_errors("PUT /rows"):
        reply.raise_for_status()


def test_any_other_error_passes_as_it_is():
    with pytest.raises(KeyError), remote_errors("PUT /rows"):
        raise KeyError("x")
