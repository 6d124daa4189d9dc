"""The options of an S3 URL, with both clients: looked for in the requests on the wire."""

import contextlib
import socket
import threading
import urllib.parse
import urllib.request

import pytest

from tests.support.s3_proxy import S3Proxy
from writeahead.errors import AccessDenied, InvalidInput, OutcomeUnknown, StoreError, Unavailable
from writeahead.stores import remote
from writeahead.stores.registry import open_store
from writeahead.stores.s3 import S3Store
from writeahead.stores.s3_options import S3Options

pytestmark = pytest.mark.usefixtures("short_waits")

CLIENTS = ["s3fs", "obstore"]


@pytest.fixture(params=CLIENTS)
def client(request):
    return request.param


@pytest.fixture
def opened(client, s3_proxy: S3Proxy, s3_bucket):
    """Open the bucket with options, through the proxy."""

    def opened(**options):
        query = urllib.parse.urlencode({"client": client, "endpoint_url": s3_proxy.url, **options})
        return open_store(f"s3://{s3_bucket.name}/p?{query}")

    return opened


def sent(proxy: S3Proxy) -> dict[str, str]:
    """The headers of the only request, names in lower case."""
    (request,) = proxy.requests
    return {name.lower(): value for name, value in request.headers.items()}


@pytest.mark.parametrize("if_absent", [False, True], ids=["put", "create"])
@pytest.mark.parametrize(
    ("options", "headers"),
    [
        ({"sse": "AES256"}, {"x-amz-server-side-encryption": "AES256"}),
        ({"sse": "aws:kms"}, {"x-amz-server-side-encryption": "aws:kms"}),
        (
            {"sse": "aws:kms", "sse_kms_key_id": "arn:aws:kms:us-east-1:123456789012:key/a-1"},
            {
                "x-amz-server-side-encryption": "aws:kms",
                "x-amz-server-side-encryption-aws-kms-key-id": "arn:aws:kms:us-east-1:123456789012:key/a-1",
            },
        ),
        ({"storage_class": "STANDARD_IA"}, {"x-amz-storage-class": "STANDARD_IA"}),
    ],
    ids=lambda value: "&".join(value) if isinstance(value, dict) else None,
)
def test_what_is_sent_with_each_object(opened, s3_proxy, options, headers, if_absent):
    store = opened(**options)
    store.put("a", b"1", if_absent=if_absent)
    assert headers.items() <= sent(s3_proxy).items()
    assert ("if-none-match" in sent(s3_proxy)) == if_absent
    s3_proxy.clear()
    assert store.get("a").data == b"1"
    assert not headers.keys() & sent(s3_proxy).keys()


def test_tags_are_sent_with_each_object(opened, s3_proxy):
    opened(tags="team=a b,cost.center=x/1:2@3").put("a", b"1", if_absent=True)
    tagging = dict(urllib.parse.parse_qsl(sent(s3_proxy)["x-amz-tagging"]))
    assert tagging == {"team": "a b", "cost.center": "x/1:2@3"}


def test_nothing_is_sent_that_was_not_asked_for(client, opened, s3_proxy):
    opened().put("a", b"1")
    headers = sent(s3_proxy).keys()
    own = {"x-amz-date", "x-amz-content-sha256"}
    if client == "obstore":
        # As s3fs's Content-MD5: a bucket with a default retention refuses an object without either.
        own.add("x-amz-checksum-sha256")
    assert {name for name in headers if name.startswith("x-amz-")} == own


def test_an_acl_is_never_sent(opened, s3_proxy):
    opened(sse="AES256", storage_class="STANDARD", tags="a=b").put("a", b"1")
    assert not [name for name in sent(s3_proxy) if "acl" in name or "grant" in name]


def test_the_region_is_what_requests_are_signed_for(opened, s3_proxy):
    opened(region="eu-west-3").head("a")
    assert "/eu-west-3/s3/aws4_request" in sent(s3_proxy)["authorization"]


def test_a_profile_brings_its_credentials_and_region(opened, s3_proxy, tmp_path, monkeypatch):
    config = tmp_path / "config"
    config.write_text(
        "[profile deployer]\nregion = eu-north-1\n"
        "aws_access_key_id = AKIADEPLOYER\naws_secret_access_key = planted\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    opened(profile="deployer").head("a")
    assert "Credential=AKIADEPLOYER/" in sent(s3_proxy)["authorization"]
    assert "/eu-north-1/s3/" in sent(s3_proxy)["authorization"]


@pytest.mark.parametrize("style", ["path", "virtual"])
def test_the_addressing_style_says_where_the_bucket_is(client, s3_proxy, s3_bucket, style, monkeypatch):
    # A name below localhost, which is found without asking a name server: s3fs looks it up in
    # Python, and obstore hands it to the HTTP proxy that the environment names.
    resolve = socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *args, **kwargs: resolve(
            "127.0.0.1" if str(host).endswith("localhost") else host, *args, **kwargs
        ),
    )
    if client == "obstore":
        monkeypatch.setenv("HTTP_PROXY", s3_proxy.url)
    endpoint = s3_proxy.url.replace("127.0.0.1", "localhost")
    url = f"s3://{s3_bucket.name}/p?client={client}&endpoint_url={endpoint}&addressing_style={style}"
    with contextlib.suppress(StoreError):
        open_store(url).head("a")
    request = s3_proxy.requests[0]
    assert request.path == ("/p/a" if style == "virtual" else f"/{s3_bucket.name}/p/a")
    host = {name.lower(): value for name, value in request.headers.items()}["host"]
    assert host.startswith(f"{s3_bucket.name}.localhost") == (style == "virtual")


def test_an_anonymous_store_reads_unsigned_and_never_writes(opened, s3_proxy, s3_bucket):
    public = urllib.request.Request(f"{s3_bucket.server}/{s3_bucket.name}/p/a", b"1", method="PUT")
    public.add_header("x-amz-acl", "public-read")
    public.add_header("Content-Type", "application/octet-stream")
    public.add_header(
        "Authorization", "AWS4-HMAC-SHA256 Credential=testing/20260101/us-east-1/s3/aws4_request"
    )
    urllib.request.urlopen(public, timeout=30).close()
    store = opened(anonymous="true")
    assert store.get("a").data == b"1"
    assert "authorization" not in sent(s3_proxy)
    s3_proxy.clear()
    for call in (lambda: store.put("b", b""), lambda: store.put("b", b"", if_absent=True)):
        with pytest.raises(AccessDenied, match="anonymous=true"):
            call()
    with pytest.raises(AccessDenied, match="anonymous=true"):
        store.delete("a")
    with pytest.raises(AccessDenied, match="anonymous=true"):
        store.check()
    assert not s3_proxy.count().keys() & {"PUT", "DELETE", "POST"}


def test_a_silent_server_is_left_after_the_read_timeout(client, s3_server, monkeypatch):
    monkeypatch.setattr(remote, "ATTEMPTS", 2)
    taken = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def take():
            while True:
                try:
                    taken.append(listener.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=take)
        thread.start()
        port = listener.getsockname()[1]
        url = f"s3://bucket?client={client}&endpoint_url=http://127.0.0.1:{port}&read_timeout=0.2"
        try:
            store = open_store(url)
            with pytest.raises(Unavailable):
                store.get("a")
            with pytest.raises(OutcomeUnknown):
                store.put("a", b"", if_absent=True)
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in taken:
                connection.close()


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("acl=private", "unknown option 'acl'"),
        ("addressing_style=dns", "auto, path, virtual"),
        ("sse=kms", "AES256, aws:kms"),
        ("sse_kms_key_id=1", "needs sse=aws:kms"),
        ("sse=AES256&sse_kms_key_id=1", "needs sse=aws:kms"),
        ("sse=aws:kms&sse_kms_key_id=a%0Ab", "KMS key"),
        ("storage_class=standard%0A", "STANDARD_IA"),
        ("tags=a", "key=value"),
        ("tags=a=1,a=2", "key=value"),
        ("tags=" + ",".join(f"k{n}=v" for n in range(11)), "at most 10"),
        ("tags=a=%0Ab", "key=value"),
        ("connect_timeout=soon", "connect_timeout"),
        ("connect_timeout=0", "connect_timeout"),
        ("read_timeout=nan", "read_timeout"),
        ("read_timeout=1e9", "at most 3600"),
        ("anonymous=1", "true or false"),
        ("anonymous=true&profile=x", "profile has no meaning"),
        ("endpoint_url=host:1", "http"),
    ],
)
def test_values_that_are_refused(client, query, says):
    with pytest.raises(InvalidInput, match=says):
        open_store(f"s3://bucket?client={client}&{query}")


def test_values_at_the_edge_are_taken(client):
    tags = ",".join(f"k{n}=v" for n in range(10))
    store = open_store(f"s3://bucket/p/?client={client}&anonymous=false&tags={tags}&read_timeout=3600")
    assert store.name.endswith("bucket/p")


SECONDS = "is a number of seconds, more than 0 and at most 3600"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("bucket?endpoint_url=ftp://h", "endpoint_url is http(s)://host:port, without credentials or a path"),
        ("bucket?sse=AES256&sse_kms_key_id=1", "sse_kms_key_id needs sse=aws:kms"),
        ("bucket?sse=aws:kms&sse_kms_key_id=a%0Ab", "sse_kms_key_id is a KMS key's id, alias or ARN"),
        ("bucket?storage_class=standard%0A", "storage_class is a name such as STANDARD_IA"),
        (
            "bucket?anonymous=true&profile=x",
            "anonymous sends no credentials, so profile has no meaning beside it",
        ),
        ("bucket?connect_timeout=0", f"connect_timeout {SECONDS}"),
        ("bucket?read_timeout=3600.1", f"read_timeout {SECONDS}"),
        ("bucket?anonymous=1", "anonymous is true or false"),
        ("bucket?tags=a", "tags is key=value,key=value,... with letters, digits, spaces and + . : / @ _ -"),
        ("", "give a bucket's name, s3://bucket/prefix"),
        ("/prefix", "give a bucket's name, s3://bucket/prefix"),
        (
            "ab",
            (
                "this can't be a bucket's name; one has at least 3 characters of A-Z a-z 0-9 . _ - and "
                "begins and ends with a letter or digit"
            ),
        ),
    ],
)
def test_what_is_refused_says_what_is_right(url, said):
    with pytest.raises(InvalidInput) as caught:
        open_store(f"s3://{url}")
    assert str(caught.value) == f"store s3://...: {said}"


def test_options_from_python():
    store = S3Store("bucket", "p", S3Options(storage_class="STANDARD_IA"))
    assert store.name == "s3://bucket/p"
    with pytest.raises(InvalidInput, match="sse"):
        S3Options(sse="none")
