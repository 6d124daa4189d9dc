"""Connections that log nothing and belong to one process; hosts on this machine."""

import contextlib
import gc
import logging

import httpx
import pytest

from writeahead.adapters import http as http_module
from writeahead.adapters.http import (
    Connections,
    is_loopback,
    quiet_logs,
)


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
