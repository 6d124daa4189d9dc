"""A folder on a system without POSIX's calls: the contract, and what Windows does otherwise.

Here on `tests.support.windows`; ``nox -s wine`` runs this file on a Python for Windows.
"""

import errno
import ntpath
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import ClassVar

import pytest

from tests.support.folders import Folder
from tests.support.windows import FILES, Refusals, environment, take_away, windows_error
from writeahead.errors import (
    AccessDenied,
    AlreadyExists,
    InvalidInput,
    InvalidKey,
    NotFound,
    OutcomeUnknown,
    Unavailable,
    Unsupported,
)
from writeahead.stores import local, portable
from writeahead.stores.local import LocalStore
from writeahead.stores.urls import folder_of, parse_store_url
from writeahead.testing import StoreContract

REAL = os.name == "nt"
here = pytest.mark.skipif(REAL, reason="an imitation, which is not needed on Windows")


def become_windows(monkeypatch, root, **more):
    """Let this process find itself on such a system, below a folder, until the end of the test.

    By the test's own monkeypatch, so that all is undone in the order that it was done in.
    """
    if REAL:
        return
    monkeypatch.setattr(local, "calls", portable)
    monkeypatch.setattr(portable, "_BINARY", 0x8000)
    Refusals(root, **more).install(monkeypatch.setattr)
    take_away(
        FILES,
        lambda module, name: monkeypatch.delattr(module, name, raising=False),
        lambda module, name, value: monkeypatch.setattr(module, name, value, raising=False),
    )


WAIT_INITIAL = portable.WAIT_INITIAL


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    monkeypatch.setattr(portable, "WAIT_INITIAL", 0.0001)


@pytest.fixture
def root(tmp_path):
    return tmp_path / "root"


@pytest.fixture
def windows(monkeypatch, root):
    become_windows(monkeypatch, root)


@pytest.fixture
def store(windows, root):
    store = LocalStore(root)
    store.put("a/b", b"old")
    return store


class _Portable(StoreContract):
    impossible: ClassVar[Mapping[str, str]] = {
        "wire": "no HTTP is spoken",
        "fork": "the system has no fork",
        "durability": "no call makes a name durable",
        **({"links": "Windows lets few users make symbolic links"} if REAL else {}),
    }

    @pytest.fixture(autouse=True)
    def _waits_in_earnest(self, monkeypatch, _short_waits):
        # On a busy machine a reader may hold a file for longer than the short ones take.
        monkeypatch.setattr(portable, "WAIT_INITIAL", WAIT_INITIAL)


class TestPortableStore(_Portable):
    @pytest.fixture
    def backdoor(self, tmp_path, monkeypatch):
        root = tmp_path / "not" / "there yet"
        if not REAL:
            for name, value in environment(tmp_path, root).items():
                monkeypatch.setenv(name, value)
        become_windows(monkeypatch, root)
        return Folder(root)

    @pytest.mark.skipif(os.environ.get("WRITEAHEAD_TESTS") != "full", reason="WRITEAHEAD_TESTS=full runs it")
    def test_a_listing_streams(self, backdoor, store):
        """It takes a while on the imitation, and is the code of the POSIX store."""
        super().test_a_listing_streams(backdoor, store)


@here
class TestPortableStoreWithoutCase(_Portable):
    impossible: ClassVar[Mapping[str, str]] = _Portable.impossible | {
        "processes": "they are tried above",
        "streaming": "it is tried above, and the imitation is slow",
    }

    @pytest.fixture
    def backdoor(self, tmp_path, monkeypatch):
        become_windows(monkeypatch, tmp_path / "root", case=False)
        return Folder(tmp_path / "root")


# Which calls are taken.


@here
def test_the_calls_are_chosen_by_what_the_system_has(tmp_path):
    code = (
        "import sys\nfrom writeahead import open_store\nopen_store(sys.argv[1]).put('a/b', b'1')\n"
        "print([name for name in sys.modules if name.startswith('writeahead.stores.')\n"
        "       and name.endswith(('durable', 'portable'))])"
    )
    for environ, taken in (
        (None, "['writeahead.stores.portable', 'writeahead.stores.durable']"),
        (environment(tmp_path, tmp_path / "root"), "['writeahead.stores.portable']"),
    ):
        command = [sys.executable, "-c", code, str(tmp_path / "root")]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout.strip()) == (0, taken), done.stderr
    assert (tmp_path / "root" / "a" / "b").read_bytes() == b"1"


def test_both_modules_of_calls_have_the_same_names():
    if REAL:
        pytest.skip("durable.py is not for Windows")
    from writeahead.stores import durable

    assert set(durable.__all__) == set(portable.__all__) - {"write_all"}


# A file that is held open.


@pytest.fixture
def held(root, store):
    """Hold a file open as any program on Windows does; returns a function that lets go."""
    file = os.open(root / "a" / "b", os.O_RDONLY | os.O_BINARY)
    open_still = [file]

    def release():
        while open_still:
            os.close(open_still.pop())

    yield release
    release()


@pytest.mark.parametrize(
    "change",
    [lambda store: store.put("a/b", b"new"), lambda store: store.delete("a/b")],
    ids=["put", "delete"],
)
def test_a_file_that_stays_held_is_unavailable_and_unchanged(root, store, held, change):
    with pytest.raises(Unavailable, match="another program holds the file open; nothing was changed"):
        change(store)
    held()
    assert Folder(root).keys() == ["a/b"]
    assert store.get("a/b").data == b"old"
    change(store)
    assert store.head("a/b") is None or store.get("a/b").data == b"new"


@pytest.mark.parametrize(
    "change",
    [lambda store: store.put("a/b", b"new"), lambda store: store.delete("a/b")],
    ids=["put", "delete"],
)
def test_a_file_that_is_held_for_a_moment_is_waited_for(monkeypatch, store, held, change):
    from tenacity import nap

    waits = []
    monkeypatch.setattr(nap.time, "sleep", lambda seconds: (waits.append(seconds), held()))
    change(store)
    assert len(waits) == 1
    assert store.head("a/b") is None or store.get("a/b").data == b"new"


def test_a_create_of_what_is_held_by_a_reader_is_settled(store, held):
    assert store.put("a/b", b"old", if_absent=True).size == 3
    with pytest.raises(AlreadyExists):
        store.put("a/b", b"new", if_absent=True)


def test_the_waits_end_within_seconds(monkeypatch):
    from tenacity import nap

    monkeypatch.undo()
    waits = []
    monkeypatch.setattr(nap.time, "sleep", waits.append)

    def refused():
        raise windows_error(32)

    with pytest.raises(OSError, match="another program holds") as caught:
        portable._patiently(refused)
    assert caught.value.errno == errno.EBUSY
    assert 2 < sum(waits) < 5


@here
@pytest.mark.parametrize("call", ["link", "mkdir", "open"])
def test_a_denial_of_permission_stays_one(monkeypatch, store, root, call):
    def refused(*_args, **_more):
        raise windows_error(5)

    monkeypatch.setattr(os, call, refused)
    with pytest.raises(AccessDenied):
        store.put("new/c", b"1", if_absent=True)
    monkeypatch.undo()
    assert Folder(root).keys() == ["a/b"]


@here
@pytest.mark.parametrize("code", [59, 64, 121, 1236])
@pytest.mark.parametrize(("call", "verb"), [("link", "create"), ("replace", "put"), ("unlink", "delete")])
def test_an_answer_of_a_share_that_was_lost_is_an_unknown_outcome(monkeypatch, store, call, verb, code):
    lost = OSError(errno.EINVAL, "the network name is gone")
    lost.winerror = code

    def failing(*_args, **_more):
        raise lost

    monkeypatch.setattr(os, call, failing)
    with pytest.raises(OutcomeUnknown, match="its effect could not be seen"):
        store.delete("a/b") if verb == "delete" else store.put("a/b", b"new", if_absent=verb == "create")


@here
def test_a_temporary_file_that_is_held_stays_for_a_listing(monkeypatch, store, root):
    """A virus scanner opens what has just been written: the object is there all the same."""
    unlink, there = os.unlink, Folder(root).keys

    def refused(path, **more):
        if "~writeahead-" in str(path):
            raise windows_error(32)
        unlink(path, **more)

    monkeypatch.setattr(os, "unlink", refused)
    store.put("a/c", b"new", if_absent=True)
    monkeypatch.setattr(os, "unlink", unlink)
    (left,) = [key for key in there() if "~" in key]
    os.utime(root / left, (1e9, 1e9))
    assert [info.key for info in store.list()] == ["a/b", "a/c"]
    assert there() == ["a/b", "a/c"]
    assert store.get("a/c").data == b"new"


# What is synced.


@here
def test_bytes_are_synced_before_their_name_and_with_it(monkeypatch, windows, root):
    steps = []

    def watch(name, shown):
        real = getattr(os, name)

        def watched(*args, **more):
            steps.append(f"{name} {shown(*args)}")
            return real(*args, **more)

        monkeypatch.setattr(os, name, watched)

    def path_of(file):
        name = Path(f"/proc/self/fd/{file}").readlink().name
        return "TEMP" if "~" in name else name

    watch("fsync", path_of)
    watch("link", lambda source, target: target.name)
    watch("replace", lambda source, target: target.name)
    store = LocalStore(root)
    store.put("p/k", b"1")
    assert steps == ["fsync TEMP", "replace k", "fsync k"]
    steps.clear()
    store.put("p/l", b"1", if_absent=True)
    assert steps == ["fsync TEMP", "link l", "fsync l"]
    steps.clear()
    LocalStore(root).put("p/l", b"1", if_absent=True)
    assert steps == ["fsync TEMP", "link l", "fsync l"]
    steps.clear()
    store.put("p/m", b"")
    assert steps == ["replace m", "fsync m"]


@here
def test_a_name_that_can_t_be_synced_is_an_unknown_outcome(monkeypatch, store, root):
    real, calls = os.fsync, iter(range(9))

    def failing(file):
        if next(calls) == 1:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(file)

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(OutcomeUnknown, match="written, but its folder could not be synced"):
        store.put("a/c", b"new", if_absent=True)


# Names.


def test_an_object_and_a_folder_of_one_name_are_told(store):
    store.put("c", b"1")
    for key in ("a", "c/d"):
        for if_absent in (False, True):
            with pytest.raises(InvalidKey, match="an object and a folder can't have the same name"):
                store.put(key, b"1", if_absent=if_absent)
    for key in ("a", "c/d"):
        assert store.head(key) is None
        with pytest.raises(NotFound):
            store.get(key)


def test_a_file_in_place_of_the_folder_is_named(windows, root):
    root.write_bytes(b"x")
    for store in (LocalStore(root), LocalStore(root / "below")):
        with pytest.raises(Unsupported, match="a file is where the store's folder should be"):
            store.put("a", b"1")


def test_the_other_case_of_a_key_is_refused_where_it_would_be_the_same(monkeypatch, root):
    become_windows(monkeypatch, root, case=False)
    store = LocalStore(root)
    store.put(".open/Call-7", b"")
    store.put("Call-7/planned-writeback.json", b"plan")
    for key, there in ((".open/call-7", "Call-7"), ("call-7/planned-writeback.json", "Call-7")):
        for if_absent in (False, True):
            with pytest.raises(InvalidKey) as caught:
                store.put(key, b"other", if_absent=if_absent)
            assert caught.value.detail == (
                f"{there} is there, and this filesystem can't tell upper from lower case"
            )
        assert store.head(key) is None
        store.delete(key)
    assert [info.key for info in store.list()] == [".open/Call-7", "Call-7/planned-writeback.json"]
    assert list(store.list("call-7/")) == []
    found = {result.promise: result.seen for result in store.check().results}
    assert found["case"] == "refused, and no harm done: keys can't differ in case only here"


@pytest.mark.parametrize(
    ("path", "form"),
    [
        (r"C:\x", r"\\?\C:\x"),
        (r"\\server\share\x", r"\\?\UNC\server\share\x"),
        (r"\\?\C:\x", r"\\?\C:\x"),
        (r"\\?\UNC\server\share", r"\\?\UNC\server\share"),
        (r"\\.\pipe", r"\\.\pipe"),
    ],
)
def test_a_path_takes_the_form_without_limits(path, form):
    """So that CON, aux.txt, names that end in a dot, and long ones are files like any other."""
    assert portable._extended(path) == form


@pytest.mark.parametrize(
    ("path", "url"),
    [
        (r"C:\x y\z", "file:///C:/x%20y/z"),
        ("C:\\", "file:///C:/"),
        (r"\\server\share\x", "file://server/share/x"),
        (r"\\?\C:\x", None),
    ],
)
def test_a_windows_path_comes_back_from_its_url(path, url):
    written = PureWindowsPath(path).as_uri()
    assert url in (written, None)
    found = folder_of(parse_store_url(written), PureWindowsPath)
    assert ntpath.normpath(found) == ntpath.normpath(path)
    assert folder_of(parse_store_url("file://localhost/C:/x"), PureWindowsPath) == "C:/x"


@pytest.mark.parametrize("url", ["file:///x", "file://a", "file://a/", "file:///", "file:///C:x"])
def test_a_windows_url_without_an_absolute_path_is_refused(url):
    with pytest.raises(InvalidInput, match="three slashes, file:///C:/x"):
        folder_of(parse_store_url(url), PureWindowsPath)


def test_a_posix_url_with_a_drive_or_a_host_is_no_windows_path():
    assert folder_of(parse_store_url("file:///C:/x"), PurePosixPath) == "/C:/x"
    with pytest.raises(InvalidInput, match="three slashes, file:///var/lib/x"):
        folder_of(parse_store_url("file://server/x"), PurePosixPath)


# Links.


@here
def test_a_link_that_takes_a_file_s_place_is_not_read(monkeypatch, store, root, tmp_path):
    (tmp_path / "secret").write_bytes(b"secret")
    file_status = portable.file_status

    def swapped(folder, name):
        found = file_status(folder, name)
        (root / "a" / "b").unlink()
        (root / "a" / "b").symlink_to(tmp_path / "secret")
        return found

    monkeypatch.setattr(portable, "file_status", swapped)
    with pytest.raises(AccessDenied, match="a symbolic link is in the way"):
        store.get("a/b")


@here
def test_a_junction_is_no_folder(monkeypatch, store, root):
    """Python calls it a folder, and no link; Windows sends what is done in it elsewhere."""
    real = os.stat
    (root / "junction").mkdir()
    (root / "junction" / "b").write_bytes(b"outside")
    junction = real(root / "junction").st_ino

    class Seen:
        def __init__(self, found):
            self._found = found
            self.st_reparse_tag = 0xA0000003 if found.st_ino == junction else 0

        def __getattr__(self, name):
            return getattr(self._found, name)

    monkeypatch.setattr(portable.os, "stat", lambda *args, **more: Seen(real(*args, **more)))
    is_link = portable._is_link
    monkeypatch.setattr(portable, "_is_link", lambda found: found.st_ino == junction or is_link(found))
    assert portable._NAME_SURROGATE & 0xA0000003
    for call in (store.get, store.head, store.delete, lambda key: store.put(key, b"1")):
        with pytest.raises(AccessDenied, match="a symbolic link is in the way"):
            call("junction/b")
    assert [info.key for info in store.list()] == ["a/b"]
