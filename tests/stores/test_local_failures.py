"""What a folder store says of each system call that fails, and of leftovers of others."""

import errno
import os
import stat
import tempfile
import time
from pathlib import Path

import pytest

from writeahead.errors import (
    AccessDenied,
    AlreadyExists,
    InvalidInput,
    InvalidKey,
    NotFound,
    OutcomeUnknown,
    StoreError,
    Unavailable,
    Unsupported,
)
from writeahead.stores import durable
from writeahead.stores.local import LocalStore, from_url


@pytest.fixture
def root(tmp_path):
    return tmp_path / "root"


@pytest.fixture
def store(root):
    store = LocalStore(root)
    store.put("a/b", b"old")
    return store


@pytest.fixture
def fail(monkeypatch):
    """Let the ``nth`` call of a function of `os` fail, and ``times - 1`` calls after it."""

    def fail(name, code, *, nth=1, times=1):
        place = (durable, "sync") if name == "fsync" else (os, name)
        real, count = getattr(*place), iter(range(1, 10**6))

        def failing(*args, **kwargs):
            if nth <= next(count) < nth + times:
                raise OSError(code, os.strerror(code))
            return real(*args, **kwargs)

        monkeypatch.setattr(*place, failing)

    return fail


def files(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


VERBS = {
    "put": lambda store: store.put("a/b", b"new"),
    "create": lambda store: store.put("a/c", b"new", if_absent=True),
    "get": lambda store: store.get("a/b"),
    "head": lambda store: store.head("a/b"),
    "delete": lambda store: store.delete("a/b"),
    "list": lambda store: list(store.list("a/")),
}
KEYS = {"put": "a/b", "create": "a/c", "get": "a/b", "head": "a/b", "delete": "a/b", "list": "a/"}


def assert_ours(error, store, verb):
    """An error names store, verb and key, and of paths no more than these."""
    operation = "put" if verb == "create" else verb
    assert (error.store, error.operation, error.key) == (store.name, operation, KEYS[verb])
    assert "root" not in error.detail
    assert "~" not in error.detail
    assert isinstance(error.__cause__, OSError)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    "case",
    [
        (errno.EIO, Unavailable, "input/output error; nothing was changed"),
        (errno.EMFILE, Unavailable, "too many open files; nothing was changed"),
        (errno.ENOSPC, Unavailable, "the disk is full or the quota used up (no space left on device)"),
        (errno.EDQUOT, Unavailable, "the disk is full or the quota used up"),
        (errno.EACCES, AccessDenied, "permission denied; check the folder's owner, mode and mount"),
        (errno.EPERM, AccessDenied, "operation not permitted; check the folder's owner"),
        (errno.EROFS, AccessDenied, "read-only file system; check the folder's owner"),
        (errno.ELOOP, AccessDenied, "a symbolic link is in the way"),
        (errno.ENAMETOOLONG, InvalidKey, "a name is too long for this filesystem"),
    ],
)
def test_a_system_error_becomes_ours_with_advice(store, root, fail, verb, case):
    code, error, says = case
    # The first two open the root and its folder "a".
    fail("open" if verb != "delete" else "unlink", code, nth=3 if verb in ("put", "create", "get") else 1)
    with pytest.raises(error) as caught:
        VERBS[verb](store)
    assert says in caught.value.detail
    assert_ours(caught.value, store, verb)
    assert files(root) == {"a/b": b"old"}


@pytest.mark.parametrize(
    "case",
    [
        (errno.ENOTDIR, InvalidKey, "an object and a folder can't have the same name"),
        (errno.EISDIR, InvalidKey, "an object and a folder can't have the same name"),
        (errno.ENOENT, Unavailable, "the store's folder or a file in it was removed meanwhile; nothing was"),
    ],
)
def test_a_put_that_finds_no_place_says_why(store, root, fail, case):
    code, error, says = case
    fail("rename", code)
    with pytest.raises(error) as caught:
        VERBS["put"](store)
    assert says in caught.value.detail
    assert_ours(caught.value, store, "put")
    assert files(root) == {"a/b": b"old"}


@pytest.mark.parametrize("code", [errno.ENOENT, errno.EISDIR])
def test_what_is_absent_for_a_reader_is_told_so(store, fail, code):
    fail("open", code, nth=3)
    with pytest.raises(NotFound, match="there is no such object") as caught:
        VERBS["get"](store)
    assert_ours(caught.value, store, "get")


# Each step of a put.


@pytest.mark.parametrize("verb", ["put", "create"])
@pytest.mark.parametrize(
    "case", [("write", errno.ENOSPC, 1), ("fsync", errno.EIO, 1), ("fstat", errno.EIO, 3)]
)
def test_bytes_that_are_not_durable_get_no_name(store, root, fail, verb, case):
    call, code, nth = case
    store = LocalStore(root)
    fail(call, code, nth=nth)
    with pytest.raises(Unavailable):
        VERBS[verb](store)
    assert files(root) == {"a/b": b"old"}


@pytest.mark.parametrize("verb", ["put", "create"])
def test_a_filesystem_that_can_t_sync_folders_is_unsupported(root, fail, verb):
    LocalStore(root).put("a/b", b"old")
    store = LocalStore(root)
    fail("fsync", errno.EINVAL, nth=2)
    with pytest.raises(Unsupported, match="can't sync folders, so no put is durable; use another"):
        VERBS[verb](store)
    fail("fsync", errno.EINVAL)
    with pytest.raises(Unsupported, match="can't sync folders"):
        LocalStore(root).put("new/folder", b"")


@pytest.fixture
def answer_lost(monkeypatch):
    """Let a function of `os` take effect once and fail; looking for the effect may fail, too."""

    def answer_lost(name, code, *, blind=False):
        real, look, calls = getattr(os, name), os.stat, []

        def failing(*args, **kwargs):
            real(*args, **kwargs)
            if not calls:
                calls.append(name)
                raise OSError(code, os.strerror(code))

        def blinded(*args, **kwargs):
            if calls and blind:
                raise OSError(code, os.strerror(code))
            return look(*args, **kwargs)

        monkeypatch.setattr(os, name, failing)
        monkeypatch.setattr(os, "stat", blinded)

    return answer_lost


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT])
@pytest.mark.parametrize(("verb", "call"), [("create", "link"), ("put", "rename"), ("delete", "unlink")])
def test_a_call_that_took_effect_and_failed_is_looked_for(root, answer_lost, verb, call, code):
    LocalStore(root).put("a/b", b"old")
    answer_lost(call, code)
    VERBS[verb](LocalStore(root))
    left = {"create": {"a/b": b"old", "a/c": b"new"}, "put": {"a/b": b"new"}, "delete": {}}
    assert files(root) == left[verb]


@pytest.mark.parametrize(("verb", "call"), [("create", "link"), ("put", "rename"), ("delete", "unlink")])
def test_an_effect_that_can_t_be_seen_is_an_unknown_outcome(root, answer_lost, verb, call):
    LocalStore(root).put("a/b", b"old")
    store = LocalStore(root)
    answer_lost(call, errno.EIO, blind=True)
    with pytest.raises(OutcomeUnknown, match="its effect could not be seen") as caught:
        VERBS[verb](store)
    assert_ours(caught.value, store, verb)


@pytest.mark.parametrize("verb", ["put", "create"])
def test_a_name_that_may_not_be_durable_is_an_unknown_outcome(root, fail, verb):
    LocalStore(root).put("a/b", b"old")
    store = LocalStore(root)
    fail("fsync", errno.EIO, nth=2)
    with pytest.raises(OutcomeUnknown) as caught:
        VERBS[verb](store)
    assert caught.value.detail == "written, but its folder could not be synced (input/output error)"
    assert_ours(caught.value, store, verb)
    assert files(root)[KEYS[verb]] == b"new"


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL])
def test_a_filesystem_without_hard_links_has_no_atomic_create(store, root, fail, code):
    fail("link", code)
    with pytest.raises(Unsupported, match="this filesystem has no hard links") as caught:
        VERBS["create"](store)
    assert_ours(caught.value, store, "create")
    assert files(root) == {"a/b": b"old"}
    fail("link", code, times=0)
    assert store.put("a/b", b"new").size == 3


def test_a_link_that_fails_otherwise_is_no_missing_feature(store, root, fail):
    fail("link", errno.EACCES)
    with pytest.raises(AccessDenied):
        VERBS["create"](store)
    assert files(root) == {"a/b": b"old"}


def test_a_create_that_is_always_overtaken_gives_up(store, root, fail):
    fail("link", errno.EEXIST, times=10)
    with pytest.raises(
        Unavailable, match="others keep creating and deleting it; nothing was changed"
    ) as caught:
        VERBS["create"](store)
    assert (caught.value.store, caught.value.operation, caught.value.key) == (store.name, "put", "a/c")
    assert files(root) == {"a/b": b"old"}


def test_a_create_that_was_overtaken_for_a_while_succeeds(store, root, fail):
    fail("link", errno.EEXIST, times=9)
    assert VERBS["create"](store).key == "a/c"
    assert files(root) == {"a/b": b"old", "a/c": b"new"}


@pytest.mark.parametrize("theirs", [b"longer than ours", b"len"])
def test_a_create_of_what_is_taken_says_so_and_leaves_nothing(store, root, theirs):
    store.put("a/c", theirs)
    with pytest.raises(AlreadyExists, match="the key holds other bytes") as caught:
        VERBS["create"](store)
    assert (caught.value.store, caught.value.operation, caught.value.key) == (store.name, "put", "a/c")
    assert files(root) == {"a/b": b"old", "a/c": theirs}


def test_a_create_that_finds_its_own_bytes_syncs_them(store, root, monkeypatch):
    first = store.put("a/c", b"new", if_absent=True)
    os.utime(root / "a" / "c", (1e9, 1e9))
    synced, sync = [], durable.sync
    monkeypatch.setattr(durable, "sync", lambda file: (synced.append(os.fstat(file).st_ino), sync(file)))
    info = LocalStore(root).put("a/c", b"new", if_absent=True)
    assert (info.key, info.size) == (first.key, first.size)
    assert info.last_modified.timestamp() == 1e9
    # After its own temporary file: theirs, and the folder.
    assert synced[1:] == [(root / "a" / "c").stat().st_ino, (root / "a").stat().st_ino]
    assert files(root) == {"a/b": b"old", "a/c": b"new"}


# Modes, links, strangers.


def test_files_and_folders_are_private_whatever_the_umask(root):
    before = os.umask(0)
    try:
        LocalStore(root).put("x/y", b"1")
    finally:
        os.umask(before)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (root, root / "x", root / "x" / "y")}
    assert [f"{mode:o}" for mode in modes.values()] == ["700", "700", "600"]


@pytest.mark.parametrize("verb", ["put", "get", "head", "delete"])
def test_a_link_in_the_way_is_not_followed(store, root, tmp_path, verb):
    (root / "a" / "b").unlink()
    (tmp_path / "b").write_bytes(b"outside")
    (root / "a").rmdir()
    (root / "a").symlink_to(tmp_path)
    with pytest.raises(AccessDenied, match="a symbolic link is in the way") as caught:
        VERBS[verb](store)
    assert (caught.value.operation, caught.value.key) == (verb, KEYS[verb])
    assert (tmp_path / "b").read_bytes() == b"outside"


@pytest.mark.parametrize("becomes", ["nothing", "a file"])
def test_a_folder_that_is_gone_does_not_fail_the_next_put(store, root, becomes):
    store.put("x/y", b"1")
    assert [info.key for info in store.list("a/")] == ["a/b"]
    (root / "a" / "b").unlink()
    (root / "a").rmdir()
    if becomes == "a file":
        (root / "a").write_bytes(b"file")
    store.put("x/y", b"2")
    store.delete("x/y")
    assert files(root) == ({"a": b"file"} if becomes == "a file" else {})


@pytest.mark.parametrize("verb", ["get", "delete"])
def test_an_object_that_is_a_link_is_none_of_ours(store, root, tmp_path, verb):
    (tmp_path / "outside").write_bytes(b"outside")
    (root / "a" / "b").unlink()
    (root / "a" / "b").symlink_to(tmp_path / "outside")
    with pytest.raises(AccessDenied, match="a symbolic link is in the way"):
        VERBS[verb](store)
    with pytest.raises(AccessDenied, match="a symbolic link is in the way"):
        store.head("a/b")
    assert list(store.list()) == []


def test_what_is_neither_file_nor_folder_is_no_object(store, root):
    os.mkfifo(root / "a" / "pipe")
    (root / "a" / "folder").mkdir()
    for key in ("a/pipe", "a/folder", "a"):
        with pytest.raises(NotFound):
            store.get(key)
        assert store.head(key) is None
        store.delete(key)
    assert [info.key for info in store.list()] == ["a/b"]
    assert (root / "a" / "folder").is_dir()
    assert stat.S_ISFIFO((root / "a" / "pipe").stat().st_mode)


def test_a_file_of_a_year_that_no_date_can_hold_hides_nothing():
    """On a file system that keeps such times; most keep them within a few centuries."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        store = LocalStore(folder)
        store.put("a", b"1")
        store.put("b", b"2")
        os.utime(Path(folder, "a"), (9e11, 9e11))
        if Path(folder, "a").stat().st_mtime < 3e11:
            pytest.skip("this file system keeps no such time")
        assert [info.last_modified is None for info in store.list()] == [True, False]
        assert store.get("a").info.last_modified is store.head("a").last_modified is None


STALE = "~writeahead-0123456789abcdef"


@pytest.mark.parametrize(
    ("name", "age", "goes"),
    [
        (STALE, 3700, True),
        (STALE, 3500, False),
        ("~writeahead-0123456789abcde", 3700, False),
        ("~writeahead-0123456789abcdef0", 3700, False),
        ("~other", 3700, False),
    ],
)
def test_only_what_a_put_left_behind_long_ago_is_removed(store, root, name, age, goes):
    (root / "a" / name).write_bytes(b"left")
    os.utime(root / "a" / name, (time.time() - age,) * 2)
    assert [info.key for info in store.list()] == ["a/b"]
    assert (root / "a" / name).exists() is not goes


def test_only_files_are_taken_for_left_behind(store, root):
    (root / "a" / STALE).mkdir()
    os.utime(root / "a" / STALE, (1e9, 1e9))
    assert [info.key for info in store.list()] == ["a/b"]
    assert (root / "a" / STALE).is_dir()


def test_a_link_is_not_taken_for_left_behind(store, root, tmp_path):
    (tmp_path / "old").write_bytes(b"theirs")
    os.utime(tmp_path / "old", (1e9, 1e9))
    (root / "a" / STALE).symlink_to(tmp_path / "old")
    assert [info.key for info in store.list()] == ["a/b"]
    assert (root / "a" / STALE).is_symlink()


def test_a_listing_survives_leftovers_it_may_not_remove(store, root, fail):
    (root / "a" / STALE).write_bytes(b"left")
    os.utime(root / "a" / STALE, (1e9, 1e9))
    fail("unlink", errno.EACCES)
    assert [info.key for info in store.list()] == ["a/b"]


def test_what_goes_while_it_is_listed_is_left_out(store, fail):
    store.put("a/c", b"1")
    fail("stat", errno.ENOENT)
    assert [info.key for info in store.list("a/")] == ["a/c"]


def test_a_key_that_is_too_long_below_a_folder_is_not_listed(store, root):
    long = "/".join(["x" * 250] * 3)
    store.put(f"{long}/{'y' * 147}", b"1")
    assert len(f"{long}/{'y' * 147}") == 900
    (root / long / ("z" * 148)).write_bytes(b"no key has as many bytes")
    assert [len(info.key) for info in store.list("x")] == [900]


# Names and URLs.


@pytest.mark.parametrize("verb", VERBS)
def test_a_file_in_place_of_the_folder_is_named(tmp_path, verb):
    (tmp_path / "root").write_bytes(b"x")
    store = LocalStore(tmp_path / "root")
    with pytest.raises(Unsupported, match="a file is where the store's folder should be; choose") as caught:
        VERBS[verb](store)
    assert_ours(caught.value, store, verb)


def test_a_store_that_is_not_there_yet_is_empty(root):
    store = LocalStore(root)
    assert list(store.list()) == []
    assert store.head("a/b") is None
    store.delete("a/b")
    with pytest.raises(NotFound, match="there is no such object"):
        store.get("a/b")
    assert not root.exists()


def test_a_url_gives_the_folder(tmp_path):
    assert from_url(tmp_path.as_uri()).name == tmp_path.as_uri()
    assert from_url(f"file://localhost{tmp_path}").name == tmp_path.as_uri()
    assert LocalStore(str(tmp_path)).name == tmp_path.as_uri()


@pytest.mark.parametrize("url", ["file://host/a", "file://a", "file:///"[:-1]])
def test_a_url_without_an_absolute_path_is_refused(url):
    with pytest.raises(InvalidInput, match=r"^store file://...: give an absolute path with three slashes"):
        from_url(url)


def test_info_is_in_utc(store, root):
    os.utime(root / "a" / "b", (1e9, 1e9))
    for info in (store.head("a/b"), store.get("a/b").info, *store.list()):
        assert info.last_modified.isoformat() == "2001-09-09T01:46:40+00:00"


def test_the_check_s_own_folder_goes_and_no_other(store, root):
    assert store.check().ok
    assert [path.name for path in root.iterdir()] == ["a"]


def test_a_check_whose_folder_stays_still_has_its_result(store, fail):
    fail("rmdir", errno.ENOTEMPTY, times=9)
    assert store.check().ok


# What is synced, and before what.


@pytest.fixture
def steps(monkeypatch, tmp_path):
    """The changes that a store makes, and what it syncs, in order."""
    seen = []

    def watch(place, name, shown):
        real = getattr(place, name)

        def watched(*args, **kwargs):
            result = real(*args, **kwargs)
            seen.append(f"{name.strip('_')} {shown(*args, **kwargs)}")
            return result

        monkeypatch.setattr(place, name, watched)

    def path_of(file):
        path = Path(f"/proc/self/fd/{file}").readlink()
        return os.path.relpath(path.with_name("TEMP") if "~" in path.name else path, tmp_path)

    def below(name, folder):
        if folder is None:
            return os.path.relpath(name, tmp_path)
        return f"{path_of(folder)}/{'TEMP' if '~' in name else name}"

    watch(durable, "sync", path_of)
    watch(os, "mkdir", lambda name, mode, *, dir_fd=None: f"{below(name, dir_fd)} {mode:o}")
    watch(os, "link", lambda old, new, *, src_dir_fd, dst_dir_fd: below(new, dst_dir_fd))
    watch(os, "rename", lambda old, new, *, src_dir_fd, dst_dir_fd: below(new, dst_dir_fd))
    watch(os, "unlink", lambda name, *, dir_fd: below(name, dir_fd))
    watch(os, "fchmod", lambda file, mode: f"{path_of(file)} {mode:o}")
    return seen


needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="it takes Linux's /proc")

PUT = ["sync x/root/p/TEMP", "rename x/root/p/k", "sync x/root/p"]


def taken(steps):
    found = list(steps)
    steps.clear()
    return found


@needs_proc
def test_each_new_folder_is_durable_before_the_next_one(tmp_path, steps):
    def new(folder, parent):
        return [f"mkdir {folder} 1700", f"sync {parent}", f"fchmod {folder} 700"]

    store = LocalStore(tmp_path / "x" / "root")
    store.put("p/k", b"1")
    assert taken(steps) == [*new("x", "."), *new("x/root", "x"), *new("x/root/p", "x/root"), *PUT]
    store.put("p/k", b"2")
    assert taken(steps) == PUT
    store.put("p/l", b"2", if_absent=True)
    assert taken(steps) == ["sync x/root/p/TEMP", "link x/root/p/l", "unlink x/root/p/TEMP", "sync x/root/p"]
    # Without bytes there is nothing to sync, and a delete may come back.
    store.put("p/m", b"")
    assert taken(steps) == ["rename x/root/p/m", "sync x/root/p"]
    store.delete("p/l")
    assert [step for step in taken(steps) if "root/p" in step] == ["unlink x/root/p/l"]


@needs_proc
def test_a_perhaps_unsynced_folder_is_synced_by_the_next(tmp_path, steps):
    root = tmp_path / "x" / "root"
    LocalStore(root).put("p/k", b"1")
    for folder, step in [
        (root / "p", ["sync x/root", "fchmod x/root/p 700"]),
        (root, ["sync x", "fchmod x/root 700"]),
    ]:
        folder.chmod(0o1700)
        steps.clear()
        LocalStore(root).get("p/k")
        assert taken(steps) == []
        LocalStore(root).put("p/k", b"1")
        assert taken(steps) == [*step, *PUT]


@needs_proc
@pytest.mark.parametrize("mode", [0o1777, 0o1750, 0o1701])
def test_a_sticky_folder_of_others_is_left_as_it_is(tmp_path, steps, mode):
    root = tmp_path / "x" / "root"
    LocalStore(root).put("p/k", b"1")
    root.chmod(mode)
    steps.clear()
    LocalStore(root).put("p/k", b"1")
    assert taken(steps) == PUT
    assert stat.S_IMODE(root.stat().st_mode) == mode


@needs_proc
def test_a_new_folder_above_the_root_is_synced_first(tmp_path, steps):
    (tmp_path / "x").mkdir(mode=0o700)
    (tmp_path / "x").chmod(0o1700)
    steps.clear()
    LocalStore(tmp_path / "x" / "root").put("p/k", b"1")
    made = [step for step in taken(steps) if not step.startswith("mkdir x 1700")]
    assert made[:4] == ["sync .", "fchmod x 700", "mkdir x/root 1700", "sync x"]


@pytest.mark.parametrize("code", [errno.EPERM, errno.EACCES])
def test_a_new_folder_of_another_user_stays_as_it_is_and_is_used(store, root, fail, code):
    (root / "a").chmod(0o1700)
    fail("fchmod", code)
    VERBS["create"](store)
    assert files(root) == {"a/b": b"old", "a/c": b"new"}
    assert stat.S_IMODE((root / "a").stat().st_mode) == 0o1700


def test_a_folder_that_can_t_be_made_durable_takes_no_object(root, fail):
    store = LocalStore(root)
    store.put("a", b"1")
    fail("fsync", errno.EIO)
    with pytest.raises(Unavailable, match="nothing was changed"):
        store.put("b/c", b"1")
    assert files(root) == {"a": b"1"}
    # The next one can't rely on it, either: the folder is still marked as new.
    assert stat.S_IMODE((root / "b").stat().st_mode) == 0o1700


@needs_proc
@pytest.mark.parametrize("verb", VERBS)
def test_no_verb_leaves_a_file_open_whether_it_succeeds_or_fails(store, root, fail, verb):
    def opened():
        return len(list(Path("/proc/self/fd").iterdir()))

    before = opened()
    VERBS[verb](store)
    assert opened() == before
    store.delete("a/c")
    store.put("a/b", b"old")
    failing = {"get": ("fstat", 2), "head": ("fstat", 1), "list": ("scandir", 1), "delete": ("unlink", 1)}
    call, nth = failing.get(verb, ("fsync", 1))
    fail(call, errno.EIO, nth=nth)
    again = LocalStore(root)
    with pytest.raises(StoreError):
        VERBS[verb](again)
    assert opened() == before
