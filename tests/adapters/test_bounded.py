"""One deadline for a request and one limit for a response, against servers that keep to neither."""

import functools
import gzip
import ipaddress
import ssl
import sys
import threading
import traceback
import tracemalloc
from datetime import datetime

import httpx
import pytest
from pydantic import BaseModel, SecretStr
from tryton import TrytonAdapter

from tests.support.hostile_server import (
    HostileServer,
    TickingClock,
    bomb,
    continues,
    drips_body,
    drips_headers,
    endless_body,
    gzip_bomb,
    tunnels,
)
from writeahead import Receipt, RunPolicy, write_back
from writeahead.adapters.base import Adapter, emits
from writeahead.adapters.bounded import BoundedTransport, ResponseTooLarge, network_transport
from writeahead.adapters.dataverse import ClientCredentials, DataverseClient
from writeahead.adapters.http import Connections, applied_despite
from writeahead.adapters.limits import STOP_GRACE, call_limits
from writeahead.errors import Applied, InvalidInput, TransientError
from writeahead.model import PlannedOperation, RunStatus
from writeahead.stores.memory import MemoryStore
from writeahead.testing import ManualClock

MIB = 2**20
# What the sockets of both ends may hold on top of what was read.
IN_FLIGHT = 24 * MIB


def read_rows(url):
    DataverseClient(url, lambda: "planted-token", timeout=5).query(
        "tasks", select=["subject"], where="a eq 1", top=1
    )


def write_row(url):
    row = "0f8b3f0e-52c5-5d0c-9a53-5b0b3a1c7d11"
    DataverseClient(url, lambda: "planted-token", timeout=5).patch("tasks", row, {"subject": "x"})


def get_token(url):
    ClientCredentials(
        url="https://org.example",
        tenant_id="tenant",
        client_id="client",
        client_secret="planted-secret",
        authority=url,
        timeout=5,
    )()


def sign_in(url):
    TrytonAdapter(url, "crm", "service", SecretStr("planted-secret"), timeout=5)._server.sign_in()


SENDERS = [(read_rows, 32 * MIB), (write_row, 8 * MIB), (get_token, 8 * MIB), (sign_in, 8 * MIB)]
by_sender = pytest.mark.parametrize(
    ("send", "limit"), SENDERS, ids=lambda value: getattr(value, "__name__", "")
)


@pytest.fixture
def clock(monkeypatch):
    """The clock of all requests that adapters send."""
    ticking = TickingClock()
    bounded = functools.partial(BoundedTransport, monotonic=ticking)
    monkeypatch.setattr("writeahead.adapters.http.BoundedTransport", bounded)
    return ticking


@by_sender
@pytest.mark.parametrize("behaviour", [drips_headers, continues, drips_body])
def test_a_reply_without_end_meets_the_deadline(clock, send, limit, behaviour):
    with HostileServer(behaviour, clock) as server:
        with pytest.raises(TransientError, match="ReadTimeout") as caught:
            send(server.url)
        assert len(server.requests) == 1
    assert caught.value.applied is (Applied.UNKNOWN if send is write_row else Applied.NO)


@by_sender
@pytest.mark.parametrize("behaviour", [endless_body, gzip_bomb])
def test_a_reply_beyond_all_size_is_not_read(send, limit, behaviour):
    with HostileServer(behaviour) as server:
        tracemalloc.start()
        try:
            with pytest.raises(TransientError, match="ResponseTooLarge") as caught:
                send(server.url)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert server.sent < limit + IN_FLIGHT
        assert len(server.requests) == 1
    assert peak < limit + 8 * MIB
    assert caught.value.applied is (Applied.UNKNOWN if send is write_row else Applied.NO)


def client_of(transport, **kwargs):
    return httpx.Client(transport=BoundedTransport(transport, **kwargs), timeout=5)


def answering(content, **headers):
    return httpx.MockTransport(lambda request: httpx.Response(200, content=content, headers=headers))


@pytest.mark.parametrize(("method", "limit"), [("GET", 100), ("POST", 10), ("PATCH", 10)])
def test_the_limit_is_the_methods(method, limit):
    for size, fits in ((limit, True), (limit + 1, False)):
        for content, headers in (
            (b"x" * size, {}),
            (gzip.compress(b"x" * size), {"Content-Encoding": "gzip"}),
        ):
            with client_of(answering(content, **headers), read_limit=100, write_limit=10) as http:
                if fits:
                    reply = http.request(method, "https://x.example")
                    assert reply.content == b"x" * size
                    assert "content-encoding" not in reply.headers
                else:
                    with pytest.raises(ResponseTooLarge):
                        http.request(method, "https://x.example")


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        (b"no gzip", "gzip"),
        (gzip.compress(b"x" * 1000)[:-9], "gzip"),
        (gzip.compress(b"x" * 1000) + b"more", "gzip"),
        (gzip.compress(bomb(MIB)), "gzip, gzip"),
        (b"x", "br"),
        (b"x", "zstd"),
    ],
    ids=["damaged", "cut", "more", "twice", "br", "zstd"],
)
def test_an_encoding_that_is_damaged_or_not_asked_for(content, encoding):
    asked = []

    def answer(request):
        asked.append(request.headers["accept-encoding"])
        # As from a socket: httpx decodes what a response is made of at once.
        return httpx.Response(200, headers={"Content-Encoding": encoding}, stream=httpx.ByteStream(content))

    class Raw(httpx.BaseTransport):
        def handle_request(self, request):
            return answer(request)

    with client_of(Raw()) as http, pytest.raises(httpx.DecodingError):
        http.get("https://x.example")
    assert asked == ["gzip"]


def test_an_empty_body_needs_no_gzip():
    with client_of(answering(b"", **{"Content-Encoding": "gzip"})) as http:
        assert http.get("https://x.example").content == b""


def silent(server, connection):
    server.stopped.wait()


def test_a_request_to_stop_ends_a_request_after_a_moment(monkeypatch):
    monkeypatch.setattr("writeahead.adapters.limits.POLL", 0.01)
    stop, clock, seen = threading.Event(), TickingClock(), []

    def stops(server, connection):
        seen.append(clock.now)
        stop.set()
        silent(server, connection)

    with HostileServer(stops, clock) as server, client_of(network_transport(), monotonic=clock) as http:
        http.timeout = httpx.Timeout(1000)
        with call_limits(lambda: 1000.0, stop), pytest.raises(httpx.ReadTimeout):
            http.post(server.url)
        assert len(server.requests) == 1
    assert seen[0] + STOP_GRACE <= clock.now < 4000


def test_a_request_to_stop_ends_an_upload_that_is_not_taken(monkeypatch):
    monkeypatch.setattr("writeahead.adapters.limits.POLL", 0.01)
    stop, clock = threading.Event(), TickingClock()

    def stops(server, connection):
        stop.set()
        silent(server, connection)

    with HostileServer(stops) as server, client_of(network_transport(), monotonic=clock) as http:
        http.timeout = httpx.Timeout(100_000)
        with call_limits(lambda: 100_000.0, stop), pytest.raises(httpx.WriteTimeout):
            http.put(server.url, content=b"x" * 64 * MIB)
    assert clock.now < 100_000


def test_a_reply_that_comes_in_that_moment_counts():
    stop = threading.Event()

    def stops_and_answers(server, connection):
        stop.set()
        server.send(connection, b"HTTP/1.1 204 No Content\r\n\r\n")

    with (
        HostileServer(stops_and_answers) as server,
        client_of(network_transport()) as http,
        call_limits(lambda: 1000.0, stop),
    ):
        assert http.post(server.url).status_code == 204


@pytest.mark.parametrize("left", [0.0, -1.0])
def test_after_the_time_of_the_run_nothing_is_sent(left):
    rest = []

    def answers_once(server, connection):
        server.send(connection, b"HTTP/1.1 204 No Content\r\n\r\n")
        rest.append(connection.recv(2**16))

    with HostileServer(answers_once) as server, client_of(network_transport()) as http:
        assert http.post(server.url).status_code == 204
        # The connection is open.
        with call_limits(lambda: left, None), pytest.raises(httpx.TimeoutException) as caught:
            http.post(server.url)
        http.close()
    assert rest == [b""]
    assert applied_despite(caught.value) is Applied.NO


class Text(BaseModel):
    text: str


class Remote(Adapter):
    """Sends by `Connections`, as an adapter of a third party would."""

    name = "remote"

    def __init__(self, url):
        self.url = httpx.URL(url)
        self.connections = Connections(self.url, httpx.Timeout(1000))

    def _send(self, method):
        try:
            reply = self.connections.exchange(method, self.url, headers={})
        except httpx.HTTPError as error:
            raise TransientError(type(error).__name__, applied=applied_despite(error)) from None
        return Receipt(remote_id=str(reply.status_code))

    @emits("upsert")
    def emit_row(self, payload: Text, operation: PlannedOperation) -> Receipt:
        return self._send("PUT")

    @emits("lookup")
    def emit_note(self, payload: Text, operation: PlannedOperation) -> Receipt:
        return self._send("POST")

    def find_note(self, payload: Text, operation: PlannedOperation) -> Receipt | None:
        return self._send("GET")


class Planning(Remote):
    def plan(self, operations):
        self._send("GET")
        return super().plan(operations)


@pytest.mark.parametrize("adapter", [Remote, Planning])
@pytest.mark.parametrize("kind", ["row", "note"])
def test_the_run_limit_ends_a_request_under_way(monkeypatch, adapter, kind):
    monkeypatch.setattr("writeahead.adapters.limits.POLL", 0.01)
    clock = ManualClock()

    def takes_too_long(server, connection):
        clock.elapsed += 31
        silent(server, connection)

    with HostileServer(takes_too_long) as server:
        report = write_back(
            [{"kind": kind, "payload": {"text": "x"}}],
            session_id="s1",
            store=MemoryStore(),
            adapter=adapter(server.url),
            policy=RunPolicy(run_limit=30),
            clock=clock,
        )
        assert len(server.requests) == 1
    assert report.status is (RunStatus.BLOCKED if adapter is Planning else RunStatus.RESUME_NEEDED)
    assert "ReadTimeout" in report.error


def test_a_stop_signal_ends_a_request_under_way(monkeypatch, clock):
    monkeypatch.setattr("writeahead.adapters.limits.POLL", 0.01)
    stop = threading.Event()

    def stops(server, connection):
        stop.set()
        silent(server, connection)

    with HostileServer(stops) as server:
        report = write_back(
            [{"kind": "row", "payload": {"text": "x"}}],
            session_id="s1",
            store=MemoryStore(),
            adapter=Remote(server.url),
            stop=stop,
        )
        assert len(server.requests) == 1
    assert report.status is RunStatus.RESUME_NEEDED
    assert report.error == "stopped by a signal or by the caller"


def test_an_upload_meets_the_deadline():
    """The clock moves a second with each piece that is written."""
    received = []

    def takes_all(server, connection):
        while data := connection.recv(2**16):
            received.append(len(data))

    with (
        HostileServer(takes_all) as server,
        client_of(network_transport(), monotonic=TickingClock()) as http,
        pytest.raises(httpx.WriteTimeout) as caught,
    ):
        http.put(server.url, content=b"x" * 16 * MIB)
    assert sum(received) < 8 * MIB
    assert applied_despite(caught.value) is Applied.UNKNOWN


@pytest.fixture
def tls(tmp_path, monkeypatch):
    """A server's TLS context, whose certificate this process trusts."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "127.0.0.1")])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(datetime(2020, 1, 1))  # noqa: DTZ001 - as cryptography takes it
        .not_valid_after(datetime(2120, 1, 1))  # noqa: DTZ001
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    plain = serialization.NoEncryption()
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.TraditionalOpenSSL, plain)
    )
    (tmp_path / "cert.pem").write_bytes(certificate.public_bytes(pem))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    return context


@pytest.mark.parametrize("through_proxy", [False, True])
@pytest.mark.parametrize("behaviour", [drips_headers, continues, drips_body])
def test_tls_and_proxies_keep_the_deadline(tls, behaviour, through_proxy):
    clock = TickingClock()
    with HostileServer(behaviour, clock, tls=tls) as server, HostileServer(tunnels) as proxy:
        transport = network_transport(proxy=proxy.url if through_proxy else None)
        with client_of(transport, monotonic=clock) as http, pytest.raises(httpx.ReadTimeout):
            http.get(server.url)
        assert [request.partition(b" ")[0] for request in server.requests] == [b"GET"]
        assert len(proxy.requests) == through_proxy


@pytest.mark.parametrize("through_proxy", [False, True])
def test_tls_and_proxies_pass_large_bodies(tls, through_proxy):
    body = b"x" * 3 * MIB

    def echoes(server, connection):
        received = server.requests[-1].partition(b"\r\n\r\n")[2]
        while len(received) < len(body):
            received += connection.recv(2**16)
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(received)}\r\n\r\n"
        server.send(connection, head.encode() + received)

    with HostileServer(echoes, tls=tls) as server, HostileServer(tunnels) as proxy:
        transport = network_transport(proxy=proxy.url if through_proxy else None)
        with client_of(transport) as http:
            assert http.post(server.url, content=body).content == body


def test_a_proxy_comes_from_the_environment(monkeypatch):
    def forwards(server, connection):
        server.send(connection, b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")

    with HostileServer(forwards) as server:
        monkeypatch.setenv("HTTP_PROXY", server.url)
        monkeypatch.setenv("NO_PROXY", "direct.example")
        root = httpx.URL("http://erp.example")
        connections = Connections(root, httpx.Timeout(5))
        assert connections.exchange("GET", root, headers={}).status_code == 502
        assert server.requests[0].startswith(b"GET http://erp.example/ HTTP/1.1")
        connections.close()
    assert _direct("http://direct.example")
    assert _direct(server.url)


@pytest.mark.parametrize("url", ["socks4://u:planted-pw@127.0.0.1:9", "socks5://u:planted-pw@127.0.0.1:9"])
def test_a_proxy_that_cannot_be_used(monkeypatch, url):
    monkeypatch.setitem(sys.modules, "socksio", None)
    monkeypatch.setenv("ALL_PROXY", url)
    with pytest.raises(InvalidInput, match="install httpx") as caught:
        Connections(httpx.URL("https://erp.example"), httpx.Timeout(5))
    assert "planted" not in "".join(traceback.format_exception(caught.value))


def test_a_host_whose_name_is_too_long():
    with client_of(network_transport()) as http, pytest.raises(httpx.ConnectError):
        http.get(f"http://{'a' * 64}.example")


def _direct(url):
    from writeahead.adapters.http import _proxy_of

    return _proxy_of(httpx.URL(url)) is None
