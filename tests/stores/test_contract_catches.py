"""Stores with a bug planted: the contract's tests must fail on them, or they prove nothing."""

import os
import subprocess
import sys
import threading

import fsspec
import pytest
from fsspec.registry import _registry

from tests.stores.test_any_fsspec_store import Careless, OwnMemory, Racy
from tests.stores.test_check import OneForAllCases, RefusesOtherCases
from tests.stores.test_store_contract import Bucket, Dict, Folder
from writeahead.errors import AlreadyExists, NotFound, Unavailable
from writeahead.stores import durable, remote
from writeahead.stores.any_fsspec import AnyFsspecStore
from writeahead.stores.base import ObjectInfo
from writeahead.stores.local import LocalStore
from writeahead.stores.memory import MemoryStore
from writeahead.stores.remote import RequestFailed
from writeahead.stores.s3 import S3Store
from writeahead.testing import StoreContract
from writeahead.testing.http_proxy import HttpProxy
from writeahead.testing.store_contract.http_faults import _Wired
from writeahead.testing.store_contract.syscalls import object_gaps, read_calls, unsynced

contract = StoreContract()


# A fork: what a child can't go on with.


class OfItsProcess(LocalStore):
    """Works in the process that made it, and in no other."""

    def __init__(self, root) -> None:
        super().__init__(root)
        self._pid = os.getpid()

    def _get(self, key):
        if os.getpid() != self._pid:
            raise Unavailable(self.name, "get", key, "planted")
        return super()._get(key)


@pytest.mark.parametrize("planted", ["an error in the child", "a copy in the child"])
def test_the_fork_test_finds(tmp_path, planted):
    error = planted == "an error in the child"
    backdoor, store = (Folder(tmp_path), OfItsProcess(tmp_path)) if error else (Dict(), MemoryStore())
    with pytest.raises((AssertionError, NotFound)):
        contract.test_a_forked_child_goes_on_with_the_instance(backdoor, store)


# Names that are compared without case.


@pytest.mark.parametrize("store", [OneForAllCases, RefusesOtherCases])
def test_the_case_test_finds(store):
    """One object for both keys; and one that can be read by the key that was refused."""
    with pytest.raises((AlreadyExists, pytest.fail.Exception)):
        contract.test_keys_that_differ_in_case_never_share_an_object(Dict(), store())


# Filesystems of fsspec that did not prove themselves.


@pytest.fixture
def _proof_is_skipped(monkeypatch):
    monkeypatch.setattr(AnyFsspecStore, "_require_proof", lambda self, key: None)
    for kind in (Careless, Racy):
        fsspec.register_implementation(kind.protocol, kind, clobber=True)
        kind.store.clear()
    yield
    for kind in (Careless, Racy):
        _registry.pop(kind.protocol)


class Objects:
    """The files of an fsspec memory filesystem."""

    def __init__(self, kind: type[OwnMemory], root: str) -> None:
        self.kind, self.root = kind, root

    def read(self, key):
        return self.kind.store[f"/{self.root}/{key}"].getvalue()

    def write(self, key, data):
        self.kind().pipe_file(f"/{self.root}/{key}", data)

    def keys(self):
        return sorted(path.removeprefix(f"/{self.root}/") for path in self.kind.store)


@pytest.mark.usefixtures("_proof_is_skipped")
@pytest.mark.parametrize("kind", [Careless, Racy])
def test_without_its_proof_a_filesystem_fails_the_contract(kind):
    store = AnyFsspecStore(kind.protocol, "a/b")
    backdoor = Objects(kind, "a/b")
    test = {
        Careless: lambda: contract.test_a_create_is_refused(backdoor, store, b"theirs"),
        Racy: lambda: contract.test_threads_race_to_create(backdoor, store),
    }[kind]
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        test()


# The wire.


class Hasty(S3Store):
    """Takes a 412 for another's, and looks no further."""

    def _settle(self, key, data):
        raise AlreadyExists(self.name, "put", key, "planted")


class Trusting(S3Store):
    """Takes a 412 for its own."""

    def _settle(self, key, data):
        return ObjectInfo(key, len(data))


class Sure(S3Store):
    """Takes every failure for a no."""

    def _send(self, method, key, **request):
        try:
            return super()._send(method, key, **request)
        except RequestFailed as failure:
            failure.unknown = False
            raise


class Faint(S3Store):
    """Tries once."""

    def _retried(self, verb, key, attempt, *, writes=False):
        try:
            return attempt()
        except RequestFailed as failure:
            raise failure.error(self.name, verb, key, failure.detail) from failure


class Chatty(S3Store):
    """Looks before it reads."""

    def _get(self, key):
        self._head(key)
        return super()._get(key)


class Loud(S3Store):
    """Says what the server said."""

    def _send(self, method, key, **request):
        try:
            return super()._send(method, key, **request)
        except RequestFailed as failure:
            failure.detail += str(failure.__cause__)
            raise


@pytest.mark.parametrize(
    ("kind", "test"),
    [
        (Hasty, lambda wired: contract.test_a_create_tells_the_truth(wired, 1)),
        (Trusting, lambda wired: contract.test_a_create_of_what_is_taken_never_succeeds(wired, 1)),
        (Trusting, contract.test_412_without_a_word_is_compared),
        (Sure, lambda wired: contract.test_a_put_tells_the_truth(wired, 1000)),
        (Sure, lambda wired: contract.test_a_delete_tells_the_truth(wired, 1000)),
        (Faint, lambda wired: contract.test_a_read_is_whole_or_fails(wired, 1)),
        (Chatty, contract.test_each_verb_costs_what_it_may),
        (Loud, contract.test_no_error_says_where_or_what_the_server_said),
    ],
    ids=lambda value: getattr(value, "__name__", "test"),
)
def test_the_wire_tests_find(s3_bucket, monkeypatch, kind, test):
    monkeypatch.setattr(remote, "WAIT_INITIAL", 0.001)
    backdoor = Bucket(s3_bucket.server, s3_bucket.name, "p/")
    with HttpProxy(s3_bucket.server) as proxy:
        options = backdoor.open_at(proxy.url)._options
        with pytest.raises((AssertionError, pytest.fail.Exception)):
            test(_Wired(kind(s3_bucket.name, "p", options), proxy, backdoor))


def test_a_store_without_its_check_is_found_out(s3_bucket, monkeypatch):
    class Blind(Bucket):
        def open_at(self, server):
            store = super().open_at(server)
            monkeypatch.setattr(type(store), "check", lambda self: MemoryStore().check())
            return store

    with pytest.raises(AssertionError):
        contract.test_check_refuses_a_server_that_ignores_conditions(
            Blind(s3_bucket.server, s3_bucket.name, "p/")
        )


# A place that says less than it has to is no reason to skip.


def test_a_place_without_its_hooks_must_be_declared(tmp_path):
    backdoor = Dict()
    with pytest.raises(AssertionError, match="give Dict server and open_at, or declare 'wire' impossible"):
        contract.test_check_refuses_a_server_that_ignores_conditions(backdoor)
    with pytest.raises(AssertionError, match="give Dict folder, or declare 'links' impossible"):
        contract.test_a_link_out_of_the_place_is_not_followed(backdoor, backdoor.open(), None)
    with pytest.raises(AssertionError, match="give Dict files, or declare 'durability' impossible"):
        contract.test_a_power_cut_after_a_put_takes_nothing(backdoor, None, "a", if_absent=True)


HALF_A_PLACE = """
import pytest
from writeahead.testing import StoreContract

class Place:
    url, open, read, write = "", None, None, None

class TestMine(StoreContract):
    @pytest.fixture
    def backdoor(self):
        return Place()
"""


def test_a_place_that_lacks_what_every_part_needs(tmp_path):
    (tmp_path / "test_mine.py").write_text(HALF_A_PLACE)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "test_delete", "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "AssertionError: give Place fill and keys\n" in done.stdout
    assert "1 error" in done.stdout


# Files.


def test_the_link_test_finds_a_store_that_follows(tmp_path, tmp_path_factory, monkeypatch):
    monkeypatch.setattr(durable, "_FOLDER_BELOW", os.O_RDONLY | os.O_DIRECTORY)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        contract.test_a_link_out_of_the_place_is_not_followed(
            Folder(tmp_path), LocalStore(tmp_path), tmp_path_factory
        )


# As strace shows a create below two new folders.
TRACE = """\
7 mkdirat(3</r>, "new", 01700) = 0
7 fsync(3</r>) = 0
7 mkdirat(4</r/new>, "er", 01700) = 0
7 fsync(4</r/new>) = 0
7 write(6</r/new/er/~t>, "data", 4) = 4
7 fsync(6</r/new/er/~t>) = 0
7 linkat(5</r/new/er>, "~t", 5</r/new/er>, "b", 0) = 0
7 fsync(5</r/new/er>) = 0
""".splitlines()
KEY = "/r/new/er/b"


def test_a_trace_of_all_syncs_has_no_gap():
    assert object_gaps(read_calls(TRACE), KEY) == []
    assert [call.kind for call in read_calls(TRACE)] == ["mkdir", "fsync"] * 2 + [
        "write",
        "fsync",
        "name",
        "fsync",
    ]


@pytest.mark.parametrize("gone", [number for number, line in enumerate(TRACE) if "fsync" in line])
def test_each_sync_that_is_left_out_is_a_gap(gone):
    for trace in (
        TRACE[:gone] + TRACE[gone + 1 :],
        [*TRACE[:gone], TRACE[gone].replace("= 0", "= -1 EIO (Input/output error)"), *TRACE[gone + 1 :]],
    ):
        assert len(object_gaps(read_calls(trace), KEY)) == 1


@pytest.mark.parametrize(("one", "other"), [(5, 6), (6, 7), (0, 1), (2, 3)])
def test_syncs_out_of_order_are_gaps(one, other):
    trace = list(TRACE)
    trace[one], trace[other] = trace[other], trace[one]
    assert object_gaps(read_calls(trace), KEY)


def test_an_object_that_is_written_in_place_is_a_gap():
    trace = ['7 write(6</r/b>, "data", 4) = 4', "7 fsync(6</r/b>) = 0", "7 fsync(3</r>) = 0"]
    assert "crash may leave a part" in object_gaps(read_calls(trace), "/r/b")[0]


# A database and its log, written in backdoor: the log is new, and was synced with its folder.
DATABASE, LOG = "/r/d", "/r/d-wal"
IN_PLACE = """\
7 openat(AT_FDCWD</>, "/r/d", O_RDWR|O_CREAT|O_CLOEXEC, 0644) = 3</r/d>
7 openat(AT_FDCWD</>, "/r/d-wal", O_RDWR|O_CREAT|O_NOFOLLOW|O_CLOEXEC, 0644) = 4</r/d-wal>
7 pwrite64(4</r/d-wal>, "page", 4, 0) = 4
7 fdatasync(4</r/d-wal>) = 0
7 fdatasync(5</r>) = 0
""".splitlines()


def test_files_that_are_written_in_place():
    def gaps(trace, there=(DATABASE,)):
        return unsynced(read_calls(trace), [DATABASE, LOG], there)

    assert gaps(IN_PLACE) == []
    assert gaps([*IN_PLACE[:3], IN_PLACE[4]]) == [f"what was written to {LOG} was not synced"]
    assert gaps(IN_PLACE[:4]) == [f"the folder of {LOG} was not synced after that name changed"]
    assert gaps(IN_PLACE[:4], [DATABASE, LOG]) == []
    assert gaps([*IN_PLACE, f'7 unlink("{LOG}") = 0']) == gaps(IN_PLACE[:4])
    assert gaps([*IN_PLACE, "7 ftruncate(3</r/d>, 4096) = 0"]) == [
        f"what was written to {DATABASE} was not synced"
    ]
    assert (
        gaps([*IN_PLACE, '7 mkdir("/r", 0700) = 0'])
        == ["the folder of /r was not synced after that name changed"] * 2
    )
    assert gaps([*IN_PLACE[:3], "7 sync() = 0"]) == []


def test_syncing_everything_is_enough():
    trace = [line for line in TRACE if "fsync" not in line]
    assert object_gaps(read_calls([*trace[:3], "7 sync() = 0", trace[3], "7 sync() = 0"]), KEY) == []


# Races.


class Looks(LocalStore):
    """Looks whether the key is free, and then writes."""

    _turn = threading.Barrier(8)

    def _put(self, key, data, *, if_absent):
        if if_absent and self._head(key):
            raise AlreadyExists(self.name, "put", key, "planted")
        self._turn.wait(timeout=5)
        return super()._put(key, data, if_absent=False)


def test_the_race_test_finds_a_store_that_looks_first(tmp_path):
    with pytest.raises(AssertionError):
        contract.test_threads_race_to_create(Folder(tmp_path), Looks(tmp_path))
