"""How long one S3 request may take, and what of a client outlives its store or its process."""

import asyncio
import contextlib
import gc
import hashlib
import os
import socket
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fsspec.asyn import get_loop

from tests.support.s3_proxy import answer
from writeahead.errors import Unavailable, Unsupported
from writeahead.stores import remote, s3
from writeahead.stores.base import ObjectInfo
from writeahead.stores.s3 import S3Store, from_url
from writeahead.stores.s3_client import run
from writeahead.stores.s3_options import S3Options


@pytest.fixture
def trickling():
    """A server that answers, and never comes to an end of it."""
    ended = threading.Event()
    server = socket.create_server(("127.0.0.1", 0))

    def trickle(connection):
        with connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
            while not ended.wait(0.02):
                try:
                    connection.sendall(b"x")
                except OSError:
                    return

    def serve():
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=trickle, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.getsockname()[1]}"
    ended.set()
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()


@pytest.fixture
def one_attempt(monkeypatch, s3_server):
    monkeypatch.setattr(remote, "ATTEMPTS", 1)


@pytest.mark.usefixtures("one_attempt")
def test_a_server_that_drips_bytes_meets_a_deadline(trickling, monkeypatch):
    monkeypatch.setattr(s3, "_REQUEST_LIMIT", 0.1)
    store = S3Store("bucket", options=S3Options(endpoint_url=trickling, read_timeout=0.5))
    began = time.monotonic()
    with pytest.raises(Unavailable, match="the connection failed"):
        store.get("a")
    # The longer of the two limits holds.
    assert time.monotonic() - began >= 0.5


def test_what_takes_too_long_is_ended(s3_server):
    ended = threading.Event()

    async def wait():
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    with pytest.raises(TimeoutError):
        run(wait, limit=0.05)
    assert ended.wait(10)


def test_what_could_not_begin_in_time_never_begins(s3_server):
    """Another user of fsspec's loop blocks it. No write may follow what was called a failure."""
    begun, free = [], threading.Event()

    async def begin():
        begun.append(1)

    get_loop().call_soon_threadsafe(free.wait)
    with pytest.raises(TimeoutError):
        run(begin, limit=0.05)
    free.set()
    run(asyncio.sleep, 0, limit=10)
    assert begun == []


def test_what_the_loop_cancels_is_a_failed_request(store, monkeypatch):
    store.put("a", b"1")
    ((client,),) = store._clients.values()

    async def cancelled(*_, **__):
        asyncio.current_task().cancel()
        await asyncio.sleep(60)

    monkeypatch.setattr(client, "_call_s3", cancelled)
    with pytest.raises(Unavailable):
        store.get("a")


# A client's connections.

needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="it takes Linux's /proc")


def connections(url):
    """The sockets of this process that are connected to a server, by their inodes."""
    port = int(url.rpartition(":")[2])
    ours = set()
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            ours.add(str(link.readlink()))
    rows = [line.split() for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]]
    to_server = {row[9] for row in rows if int(row[2].rpartition(":")[2], 16) == port}
    return {inode for inode in to_server if f"socket:[{inode}]" in ours}


def comes_true(check):
    """Whether it comes true within ten seconds: connections are closed in another thread."""
    ends = time.monotonic() + 10
    while not check() and time.monotonic() < ends:
        time.sleep(0.01)
    return check()


@pytest.fixture
def store(s3_bucket, s3_proxy):
    return S3Store(s3_bucket.name, options=S3Options(endpoint_url=s3_proxy.url))


@needs_proc
def test_a_store_that_is_dropped_closes_its_connections(s3_bucket, s3_proxy):
    before = connections(s3_proxy.url)
    store = S3Store(s3_bucket.name, options=S3Options(endpoint_url=s3_proxy.url))
    store.put("a", b"1")
    assert connections(s3_proxy.url) - before
    del store
    gc.collect()
    assert comes_true(lambda: not connections(s3_proxy.url) - before)


@needs_proc
def test_one_client_serves_all_requests_of_a_process(store, s3_proxy):
    before = connections(s3_proxy.url)
    store.put("a", b"1")
    held = connections(s3_proxy.url) - before
    for _ in range(3):
        store.get("a")
    assert connections(s3_proxy.url) - before == held
    assert list(store._clients) == [os.getpid()]


@needs_proc
def test_a_client_is_closed_only_in_its_own_process(store, s3_proxy):
    """A forked child shares its parent's sockets: to close them properly would end the parent's."""
    store.put("a", b"1")
    ((client,),) = store._clients.values()
    held = connections(s3_proxy.url)
    s3.close(os.getpid() + 1, client)
    assert connections(s3_proxy.url) == held
    s3.close(os.getpid(), client)
    assert comes_true(lambda: connections(s3_proxy.url) < held)


def test_two_stores_share_no_client(s3_bucket, s3_server):
    options = S3Options(endpoint_url=s3_server)
    one, other = S3Store(s3_bucket.name, options=options), S3Store(s3_bucket.name, options=options)
    one.put("a", b"1")
    assert other.get("a").data == b"1"
    assert one._clients[os.getpid()][0] is not other._clients[os.getpid()][0]


# What an answer tells of an object.


def test_every_verb_tells_the_same_of_an_object(store, s3_bucket):
    data = b"some bytes"
    put = store.put("a/b", data)
    etag = hashlib.md5(data, usedforsecurity=False).hexdigest()
    assert put == ObjectInfo("a/b", len(data), None, etag)
    assert store.put("a/b", data, if_absent=True).key == "a/b"
    infos = [store.head("a/b"), store.get("a/b").info, *store.list("a/")]
    assert len(infos) == 3
    for info in infos:
        assert (info.key, info.size, info.etag) == ("a/b", len(data), etag)
        assert info.last_modified.tzinfo is UTC
        assert abs((info.last_modified - datetime.now(UTC)).total_seconds()) < 3600
    assert s3_bucket.read("a/b") == data


def test_a_listing_begins_after_and_below_a_prefix(s3_bucket, s3_server):
    store = S3Store(s3_bucket.name, "base", S3Options(endpoint_url=s3_server))
    for key in ("a", "a/b", "a/c", "b"):
        store.put(key, b"1")
    assert s3_bucket.keys() == ["base/a", "base/a/b", "base/a/c", "base/b"]
    assert [info.key for info in store.list(start_after="a/b")] == ["a/c", "b"]
    assert [info.key for info in store.list("a/", start_after="a/b")] == ["a/c"]
    assert [info.key for info in store.list("a")] == ["a", "a/b", "a/c"]


def test_a_server_that_ignores_start_after_is_no_trouble(s3_proxy, s3_bucket):
    store = S3Store(s3_bucket.name, options=S3Options(endpoint_url=s3_proxy.url))
    page = b"""<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
<Name>b</Name><Prefix></Prefix><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>%s</ListBucketResult>"""
    one = b"""<Contents><Key>%s</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>%s</ETag>
<Size>1</Size></Contents>"""
    contents = [(b"a", b"&quot;1&quot;"), (b"b", b"2"), (b"folder/", b"3"), (b"c", b"")]
    s3_proxy.fault("LIST", answer(200, body=page % b"".join(one % each for each in contents)))
    found = list(store.list(start_after="a"))
    assert [(info.key, info.etag) for info in found] == [("b", "2"), ("c", None)]


def test_a_client_without_conditions_never_creates(store, s3_bucket, monkeypatch):
    """An older botocore drops what it does not know; then a create would overwrite."""
    s3_bucket.write("a", b"theirs")
    store.put("warm", b"1")
    ((client,),) = store._clients.values()
    known = client._kwargs_helper.filter_dict

    def without(method, given):
        return {name: value for name, value in known(method, given).items() if name != "IfNoneMatch"}

    monkeypatch.setattr(client._kwargs_helper, "filter_dict", without)
    with pytest.raises(Unsupported, match="the installed botocore has no conditional put; upgrade it"):
        store.put("a", b"ours", if_absent=True)
    assert s3_bucket.read("a") == b"theirs"
    store.put("b", b"ours")
    assert s3_bucket.read("b") == b"ours"


# Names and URLs.


def test_a_url_is_a_bucket_and_a_prefix():
    assert from_url("s3://bucket").name == "s3://bucket"
    assert from_url("s3://bucket/").name == "s3://bucket"
    assert from_url("s3://bucket/a/b/").name == "s3://bucket/a/b"
    assert from_url("s3://bucket/a?region=eu-west-1").name == "s3://bucket/a"
