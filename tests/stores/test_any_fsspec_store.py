"""Stores on any fsspec filesystem: the kit where one can be proven; all others are refused."""

import inspect
import os
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry
from s3fs import S3FileSystem

from tests.support.s3_proxy import answer
from tests.support.s3_server import RawBucket
from writeahead.errors import (
    AccessDenied,
    AlreadyExists,
    InvalidInput,
    NotFound,
    OutcomeUnknown,
    Unavailable,
    Unsupported,
)
from writeahead.stores.any_fsspec import AnyFsspecStore
from writeahead.stores.registry import open_store
from writeahead.testing import StoreContract


@pytest.fixture
def configured(monkeypatch):
    """Point fsspec's own S3 filesystem at a server, as its configuration files would."""

    def configured(url):
        # Its own retries would take minutes.
        once = {"retries": {"total_max_attempts": 1}}
        monkeypatch.setitem(fsspec.config.conf, "s3", {"endpoint_url": url, "config_kwargs": once})
        monkeypatch.setattr(S3FileSystem, "retries", 1)
        monkeypatch.setenv("FSSPEC_S3_ENDPOINT_URL", url)  # for processes that a test starts

    return configured


class Bucket(RawBucket):
    @property
    def url(self):
        return f"fsspec+s3://{self.name}/{self.prefix}"

    def open(self):
        # The check is tried by tests of its own; here it would be half of the kit's time.
        return AnyFsspecStore("s3", f"{self.name}/{self.prefix}".rstrip("/"), proven=True)

    def open_at(self, server):
        self.configured(server)
        return self.open()


SLOW = pytest.mark.skipif(
    os.environ.get("WRITEAHEAD_TESTS") != "full", reason="takes 20 seconds: `nox -s servers` runs it"
)


class TestFsspecS3(StoreContract):
    impossible: ClassVar[Mapping[str, str]] = {
        "streaming": "fsspec has no listing that streams and is ordered",
        "retries": "how often an fsspec filesystem tries again is its own affair",
        "links": "there is no file system",
        "durability": "its server keeps the files",
        "proof": "what a server answered is not told; the check before the first put has proved it",
    }
    # s3fs looks for itself why a create was refused. Where it can get parts of an object at once,
    # it looks for its size before it gets it.
    _sized: ClassVar[bool] = "max_concurrency" in inspect.signature(S3FileSystem._cat_file).parameters
    requests: ClassVar[Mapping[str, int]] = {
        **StoreContract.requests,
        "refused": 2 + _sized,
        "get": 1 + _sized,
    }

    @pytest.fixture
    def backdoor(self, s3_bucket, configured):
        configured(s3_bucket.server)
        backdoor = Bucket(s3_bucket.server, s3_bucket.name, "team/service/")
        backdoor.configured = configured
        return backdoor

    @SLOW
    def test_processes_race_to_create(self, backdoor):
        """Each process proves the filesystem first, by some 600 requests."""
        super().test_processes_race_to_create(backdoor)

    @SLOW
    def test_a_kill_in_the_middle_of_a_put_leaves_old_or_new(self, backdoor):
        """The same."""
        super().test_a_kill_in_the_middle_of_a_put_leaves_old_or_new(backdoor)


class OwnMemory(MemoryFileSystem):
    """A filesystem with an atomic create of its own, in one process."""

    protocol = "ownmemory"
    store: ClassVar[dict] = {}
    pseudo_dirs: ClassVar[list] = [""]
    lock: ClassVar = threading.Lock()

    def pipe_file(self, path, value, mode="overwrite", **kwargs):
        with self.lock:
            if mode == "create" and self.exists(path):
                raise FileExistsError(path)
            super().pipe_file(path, value, **kwargs)


class Racy(OwnMemory):
    """Looks, waits, and writes: refuses a second create, but not one at the same time."""

    protocol = "racy"
    store: ClassVar[dict] = {}

    def pipe_file(self, path, value, mode="overwrite", **kwargs):
        if mode == "create" and self.exists(path):
            raise FileExistsError(path)
        time.sleep(0.02)
        with self.lock:
            MemoryFileSystem.pipe_file(self, path, value, **kwargs)


class Careless(OwnMemory):
    """Knows the word, and overwrites all the same."""

    protocol = "careless"
    store: ClassVar[dict] = {}

    def pipe_file(self, path, value, mode="overwrite", **kwargs):
        super().pipe_file(path, value, **kwargs)


class Swallows(OwnMemory):
    """Does not know the word, and does not say so."""

    protocol = "swallows"

    def pipe_file(self, path, value, **kwargs):
        super().pipe_file(path, value)


@pytest.fixture(autouse=True)
def _registered():
    kinds = (OwnMemory, Racy, Careless, Swallows)
    for kind in kinds:
        fsspec.register_implementation(kind.protocol, kind, clobber=True)
        kind.store.clear()
    yield
    for kind in kinds:
        _registry.pop(kind.protocol)


@pytest.mark.parametrize("scheme", ["zip", "ftp", "data", "github", "dir", "simplecache", "swallows"])
def test_a_filesystem_without_an_atomic_create_is_refused(scheme):
    with pytest.raises(Unsupported) as caught:
        open_store(f"fsspec+{scheme}://a/b")
    assert str(caught.value) == (
        f"fsspec+{scheme}://a/b: check '': this filesystem has no atomic create"
        " (of fsspec's own, two at once may both win)"
    )
    assert caught.value.store == f"fsspec+{scheme}://a/b"


@pytest.mark.parametrize(("scheme", "instead"), [("file", "file://"), ("memory", "memory://")])
def test_what_we_have_ourselves_is_not_taken_from_fsspec(scheme, instead):
    with pytest.raises(InvalidInput, match=f"use {instead}"):
        open_store(f"fsspec+{scheme}://a")


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("fsspec+gopher://a", "knows no 'gopher'"),
        ("fsspec+://a", "knows no ''"),
        ("fsspec+ownmemory://a?x=1", "unknown option"),
        ("fsspec+ownmemory://key:secret@a", "credentials"),
        ("fsspec+ownmemory://a/../b", r"^store fsspec\+ownmemory://a/\.\.\.: the prefix"),
    ],
)
def test_urls_that_are_refused(url, says):
    with pytest.raises(InvalidInput, match=says):
        open_store(url)


def test_one_that_proves_itself_is_used(monkeypatch):
    store = open_store("fsspec+ownmemory://a/b")
    store.put("s/k", b"1", if_absent=True)
    with pytest.raises(AlreadyExists):
        store.put("s/k", b"2", if_absent=True)
    store.put("s/k", b"1", if_absent=True)
    assert [path for path in OwnMemory.store if ".check" in path] == []
    assert [file.getvalue() for file in OwnMemory.store.values()] == [b"1"]
    # The proof is asked for once.
    monkeypatch.setattr(AnyFsspecStore, "check", None)
    store.put("s/other", b"1", if_absent=True)
    open_store("fsspec+ownmemory://a/b").put("s/third", b"1", if_absent=True)


@pytest.mark.parametrize("path", ["a/X/b/X", "a/X/b/X/"])
def test_a_slash_at_the_end_is_no_other_place(path):
    store = open_store(f"fsspec+ownmemory://{path}")
    assert store.name == "fsspec+ownmemory://a/X/b/X"
    store.put("s/k", b"1")
    assert [name.removeprefix("ownmemory://").lstrip("/") for name in OwnMemory.store] == ["a/X/b/X/s/k"]


def test_a_bucket_alone_is_a_place():
    assert open_store("fsspec+ownmemory://a/").name == "fsspec+ownmemory://a"


GONE = "there is no such object, or no such place"
REFUSED = "the filesystem refused; check the credentials and their permissions"


@pytest.mark.parametrize(
    ("raised", "kind", "said"),
    [
        (FileNotFoundError, NotFound, GONE),
        (PermissionError, AccessDenied, REFUSED),
        (IsADirectoryError, NotFound, "there is no such object, but a folder"),
        (TypeError, Unsupported, "this filesystem can't do what writeahead needs (TypeError)"),
        (RuntimeError, Unavailable, "the filesystem failed (RuntimeError)"),
    ],
)
def test_each_failure_is_told_in_our_words(monkeypatch, raised, kind, said):
    def fail(*_args, **_more):
        raise raised("planted-secret")

    store = open_store("fsspec+ownmemory://a/b")
    monkeypatch.setattr(OwnMemory, "cat_file", fail)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with pytest.raises(kind) as caught:
        store.get("s/k")
    assert type(caught.value) is kind
    assert str(caught.value) == f"fsspec+ownmemory://a/b: get 's/k': {said}"
    assert "planted-secret" not in str(caught.value)


@pytest.mark.parametrize("gone", [FileNotFoundError, IsADirectoryError])
def test_what_is_taken_and_gone_each_time_is_told(monkeypatch, gone):
    store = open_store("fsspec+ownmemory://a/b")
    store.put("s/other", b"")  # proves the store

    def refuse(kind):
        def refusing(*_args, **_more):
            raise kind

        return refusing

    monkeypatch.setattr(OwnMemory, "pipe_file", refuse(FileExistsError))
    monkeypatch.setattr(OwnMemory, "cat_file", refuse(gone))
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with pytest.raises(Unavailable, match="others keep creating and deleting it"):
        store.put("s/k", b"1", if_absent=True)


@pytest.mark.parametrize("name", ["LastModified", "last_modified", "mtime", "created"])
@pytest.mark.parametrize("size", [0, 7, None])
def test_what_is_known_of_an_object(monkeypatch, name, size):
    summer = timezone(timedelta(hours=2))
    info = {"type": "file", "size": size, name: datetime(2026, 7, 1, 12, tzinfo=summer), "etag": "x"}
    monkeypatch.setattr(OwnMemory, "info", lambda *_args, **_more: info)
    found = open_store("fsspec+ownmemory://a/b").head("s/k")
    assert (found.key, found.size, found.last_modified) == (
        "s/k",
        size or 0,
        datetime(2026, 7, 1, 10, tzinfo=UTC),
    )
    assert found.last_modified.tzinfo is UTC
    info[name] = 1234567890.0  # a number of seconds, as local filesystems have it
    assert open_store("fsspec+ownmemory://a/b").head("s/k").last_modified is None
    info["type"] = "directory"
    assert open_store("fsspec+ownmemory://a/b").head("s/k") is None


@pytest.mark.parametrize("verb", ["head", "get", "delete", "list"])
def test_a_failure_names_what_was_tried(monkeypatch, verb):
    def fail(*_args, **_more):
        raise PermissionError("planted")

    store = open_store("fsspec+ownmemory://a/b")
    for name in ("info", "cat_file", "rm_file", "rm", "find"):
        monkeypatch.setattr(OwnMemory, name, fail)
    with pytest.raises(AccessDenied, match=f"{verb} 's/k'"):
        list(getattr(store, verb)("s/k"))


@pytest.mark.parametrize(
    ("scheme", "broken"), [("racy", "one winner: Unsupported"), ("careless", "refused create: Unsupported")]
)
@pytest.mark.parametrize("if_absent", [True, False])
def test_one_that_does_not_is_refused_before_anything_is_put(scheme, broken, if_absent):
    store = open_store(f"fsspec+{scheme}://a/b")
    for _ in range(2):
        with pytest.raises(Unsupported) as caught:
            store.put("s/k", b"1", if_absent=if_absent)
        head = f"fsspec+{scheme}://a/b: put 's/k': nothing was put, as the check failed: "
        assert str(caught.value).startswith(head)
        promises = str(caught.value).removeprefix(head).split("; ")
        assert any(promise.startswith(broken) for promise in promises)
    assert not store.check().ok
    assert fsspec.get_filesystem_class(scheme).store == {}


def test_a_server_that_ignores_conditions_is_refused(s3_proxy, s3_bucket, configured):
    configured(s3_proxy.url)
    s3_proxy.ignore_conditions = True
    store = open_store(f"fsspec+s3://{s3_bucket.name}/p")
    with pytest.raises(Unsupported, match="refused create"):
        store.put("a", b"1", if_absent=True)
    assert s3_bucket.keys() == []


@pytest.mark.parametrize(("fault", "error"), [(answer(403), AccessDenied), (answer(400), OutcomeUnknown)])
def test_errors_are_ours(s3_proxy, s3_bucket, configured, fault, error):
    configured(s3_proxy.url)
    store = AnyFsspecStore("s3", s3_bucket.name, proven=True)
    s3_proxy.fault("PUT", fault)
    with pytest.raises(error) as caught:
        store.put("a", b"1")
    assert "127.0.0.1" not in str(caught.value)
