"""Retry-After in both forms, and what a failed request may have done."""

import contextlib
import gc
import logging
from datetime import UTC, datetime

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from writeahead.adapters import http as http_module
from writeahead.adapters.http import (
    Connections,
    applied_despite,
    is_loopback,
    quiet_logs,
    retry_after_seconds,
)
from writeahead.errors import LONGEST_WAIT, Applied

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)


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


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "127.1.2.3", "::1"])
def test_loopback(host):
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1", "", "::2"])
def test_not_loopback(host):
    assert not is_loopback(host)


def test_only_our_own_requests_are_kept_out_of_the_log(caplog):
    caplog.set_level(logging.DEBUG)
    transport = httpx.MockTransport(lambda request: httpx.Response(200))
    with httpx.Client(transport=transport) as http:
        with quiet_logs():
            http.get("https://ours.example/?secret")
        http.get("https://theirs.example/")
    assert "ours.example" not in caplog.text
    assert "theirs.example" in caplog.text


def test_connections_that_are_collected_set_no_context_variable(monkeypatch):
    """The collector may run while one is being set, and CPython 3.11 crashes on the second."""
    transport = httpx.MockTransport(lambda request: httpx.Response(200))
    connections = Connections(httpx.URL("https://x.example"), httpx.Timeout(5), transport=transport)
    client = connections._pool.http
    sets = []
    monkeypatch.setattr(http_module, "quiet_logs", lambda: sets.append("set") or contextlib.nullcontext())
    del connections
    gc.collect()
    assert client.is_closed
    assert sets == []
