"""Where nothing was sent, no error says that something may have happened. Both clients."""

import datetime as dt
import ipaddress
import json
import socket
import ssl
import stat
import sys
import threading
from http.server import ThreadingHTTPServer

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.http_server import QuietHandler
from tests.support.s3_proxy import S3Proxy, answer
from writeahead.errors import AccessDenied, InvalidInput, NotFound, Unavailable
from writeahead.stores.registry import open_store

pytestmark = pytest.mark.usefixtures("s3_server", "short_waits")

CALLS = {
    "put": lambda store: store.put("a", b"1"),
    "create": lambda store: store.put("a", b"1", if_absent=True),
    "delete": lambda store: store.delete("a"),
    "get": lambda store: store.get("a"),
    "list": lambda store: list(store.list()),
}


def refusals(store, error) -> list[str]:
    """What each verb says, all of them by this error."""
    said = []
    for call in CALLS.values():
        with pytest.raises(error) as caught:
            call(store)
        assert "may or may not" not in str(caught.value)
        said.append(caught.value.detail)
    return said


def test_a_server_that_does_not_listen(client):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    store = open_store(f"s3://bucket?client={client}&endpoint_url=http://127.0.0.1:{port}")
    assert all("no connection to the server" in said for said in refusals(store, Unavailable))


def test_a_proxy_that_does_not_listen(client, s3_proxy, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
    endpoint = s3_proxy.url
    store = open_store(f"s3://bucket?client={client}&endpoint_url={endpoint}")
    refusals(store, Unavailable)
    assert s3_proxy.requests == []


def test_no_credentials(client, s3_proxy, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    # A client that asks the machine's metadata service all the same goes through here.
    with S3Proxy("http://127.0.0.1:1") as metadata:
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.url)
        store = open_store(f"s3://bucket?client={client}&endpoint_url={s3_proxy.url}")
        assert all("set AWS_ACCESS_KEY_ID" in said for said in refusals(store, AccessDenied))
        assert metadata.requests == []
    assert s3_proxy.requests == []


def test_no_credentials_without_botocore(s3_proxy, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setitem(sys.modules, "botocore.session", None)
    store = open_store(f"s3://bucket?client=obstore&endpoint_url={s3_proxy.url}")
    assert all("set AWS_ACCESS_KEY_ID" in said for said in refusals(store, AccessDenied))
    assert s3_proxy.requests == []
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    s3_proxy.fault("PUT", answer(404, "NoSuchBucket"))
    with pytest.raises(NotFound):
        store.put("a", b"1")
    assert s3_proxy.count() == {"PUT": 1}


PROCESSES = {
    "no json": "echo nonsense",
    "no object": "echo 1",
    "another version": """echo '{"Version": 7}'""",
    "no keys": """echo '{"Version": 1}'""",
    "a failure": "echo planted secret >&2; exit 1",
    "not there": "/not/there",
}


@pytest.mark.parametrize("program", PROCESSES)
def test_a_credential_process_that_talks_nonsense(client, s3_proxy, monkeypatch, tmp_path, program):
    script = tmp_path / "process"
    script.write_text(f"#!/bin/sh\n{PROCESSES[program]}\n")
    script.chmod(0o700 if program != "not there" else stat.S_IRUSR)
    config = tmp_path / "config"
    config.write_text(f"[profile odd]\nregion = us-east-1\ncredential_process = {script}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    store = open_store(f"s3://bucket?client={client}&profile=odd&endpoint_url={s3_proxy.url}")
    said = refusals(store, AccessDenied)
    assert all("credentials could not be loaded" in each for each in said)
    assert "planted" not in str(said)
    assert s3_proxy.requests == []


SSO = """[profile signed-out]
region = us-east-1
sso_session = ours
sso_account_id = 123456789012
sso_role_name = role
[sso-session ours]
sso_start_url = https://planted.example/start
sso_region = us-east-1
"""


def test_a_login_that_is_not_there(client, s3_proxy, monkeypatch, tmp_path):
    config = tmp_path / "config"
    config.write_text(SSO)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("HOME", str(tmp_path))
    store = open_store(f"s3://bucket?client={client}&profile=signed-out&endpoint_url={s3_proxy.url}")
    said = refusals(store, AccessDenied)
    assert all("aws sso login" in each for each in said)
    assert "planted" not in str(said)
    assert s3_proxy.requests == []


def test_a_profile_that_is_missing(client, s3_proxy, monkeypatch):
    """Both clients name it: one when it is opened, the other at the first verb."""
    with pytest.raises((InvalidInput, AccessDenied), match="the profile is not in the AWS configuration"):
        open_store(f"s3://bucket?client={client}&profile=nobody&endpoint_url={s3_proxy.url}").put("a", b"")
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises((InvalidInput, AccessDenied), match="the profile is not in the AWS configuration"):
        open_store(f"s3://bucket?client={client}&endpoint_url={s3_proxy.url}").put("a", b"")
    assert s3_proxy.requests == []


# Certificates.


@pytest.fixture
def secure(s3_server, tmp_path):
    """A TLS server with a certificate that is not trusted: its URL, its CA, its requests."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    ca, private = tmp_path / "ca.pem", tmp_path / "key.pem"
    ca.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    requests = []

    class Handler(QuietHandler):
        def do_GET(self):
            requests.append(f"{self.command} {self.path}")
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(403)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_PUT = do_DELETE = do_GET

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_):
            pass  # a client that does not trust it hangs up

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ca, private)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"https://127.0.0.1:{server.server_port}", ca, requests
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_certificate_that_is_not_trusted(client, secure):
    url, _, requests = secure
    store = open_store(f"s3://bucket?client={client}&endpoint_url={url}")
    assert all("AWS_CA_BUNDLE" in said for said in refusals(store, Unavailable))
    assert requests == []


def test_a_ca_bundle_is_trusted(client, secure, monkeypatch):
    url, ca, requests = secure
    monkeypatch.setenv("AWS_CA_BUNDLE", str(ca))
    store = open_store(f"s3://bucket?client={client}&endpoint_url={url}")
    with pytest.raises(AccessDenied, match="403"):
        store.put("a", b"1")
    assert requests == ["PUT /bucket/a"]


def test_a_ca_bundle_that_is_missing(client, secure, monkeypatch, tmp_path):
    url, _, requests = secure
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "planted.pem"))
    store = open_store(f"s3://bucket?client={client}&endpoint_url={url}")
    said = refusals(store, Unavailable)
    assert all("check AWS_CA_BUNDLE" in each for each in said)
    assert "planted" not in json.dumps(said)
    assert requests == []
