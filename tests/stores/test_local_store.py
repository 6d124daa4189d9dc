"""The local store as the kernel sees it: its system calls traced, failed and killed."""

import contextlib
import errno
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from writeahead.errors import (
    AccessDenied,
    AlreadyExists,
    InvalidInput,
    InvalidKey,
    NotFound,
    StoreError,
    Unavailable,
    Unsupported,
)
from writeahead.stores import single_flight
from writeahead.stores.local import LocalStore, calls
from writeahead.stores.registry import open_store

NOBODY = 65534
# What a put may do to files and folders. fstat and close change nothing, and are left out.
CALLS = "openat,mkdir,mkdirat,write,fsync,link,linkat,rename,renameat,renameat2,unlink,unlinkat"

# Puts one object, and prints what came of it. The write to stderr separates it from Python's own
# start.
PROGRAM = """
import json, os, sys
from writeahead.errors import StoreError
from writeahead.stores.local import LocalStore
root, key, data, if_absent = sys.argv[1:]
store = LocalStore(root)
os.write(2, b"begin")
try:
    store.put(key, data.encode(), if_absent=if_absent == "create")
    outcome = {}
except StoreError as error:
    outcome = {"error": type(error).__name__, "message": str(error)}
os.write(2, b"end")
print(json.dumps(outcome))
"""


def _strace_works() -> bool:
    if shutil.which("strace") is None:
        return False
    tried = subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, check=False)
    return tried.returncode == 0


needs_strace = pytest.mark.skipif(
    not _strace_works(), reason="strace is not installed, or may not trace here"
)


class Traced:
    """A put in a process under strace: its outcome and its system calls below the root."""

    def __init__(
        self, tmp_path: Path, how: str, key: str = "a/b", inject: str = "", root: str = "root"
    ) -> None:
        trace = tmp_path / "trace"
        command = ["strace", "-f", "-y", "-qq", "-o", str(trace), "-e", f"trace={CALLS}"]
        if inject:
            command += ["-e", f"inject={inject}"]
        command += [sys.executable, "-c", PROGRAM, str(tmp_path / root), key, "new", how]
        self.ended = subprocess.run(command, capture_output=True, text=True, check=False)
        lines = trace.read_text().splitlines()
        begin = next(number for number, line in enumerate(lines) if '"begin"' in line)
        end = next((number for number, line in enumerate(lines) if '"end"' in line), len(lines))
        self.calls = [call for line in lines[begin + 1 : end] if (call := _read_call(line, tmp_path / root))]

    @property
    def outcome(self) -> dict[str, str]:
        return json.loads(self.ended.stdout)


def _read_call(line: str, root: Path) -> str | None:
    """`123 linkat(4</r/a>, "~writeahead-12", 4</r/a>, "b", 0) = 0` as `linkat a/TEMP a/b`."""
    found = re.match(r"\d+ +(\w+)\((.*)\) += (-?\d+)", line)
    if found is None:
        return None
    name, arguments, result = found.groups()
    base, paths = "", []
    for fd_path, quoted in re.findall(r'\w+<([^>]*)>|"([^"]*)"', arguments):
        if fd_path:
            base = fd_path
        elif name != "write":
            paths.append(str(Path(base) / quoted))
    if name in ("fsync", "write"):
        paths = [base]
    shown = [re.sub(r"~writeahead-\w+", "TEMP", os.path.relpath(path, root)) for path in paths]
    return " ".join([name, *shown, *([] if int(result) >= 0 else ["failed"])])


def files_below(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


# Durability: what is synced, and when.


@needs_strace
@pytest.mark.parametrize("how", ["put", "create"])
def test_a_put_does_just_what_durability_needs(tmp_path, how):
    (tmp_path / "root" / "a").mkdir(parents=True)
    named = {"put": ["renameat a/TEMP a/b"], "create": ["linkat a/TEMP a/b", "unlinkat a/TEMP"]}[how]
    assert Traced(tmp_path, how).calls == [
        "openat .",
        "openat a",
        "openat a/TEMP",
        "write a/TEMP",
        "fsync a/TEMP",
        *named,
        "fsync a",
    ]


@needs_strace
@pytest.mark.parametrize("how", ["put", "create"])
def test_each_new_folder_is_synced_into_its_parent(tmp_path, how):
    calls = Traced(tmp_path, how, key="x/y/b").calls
    changes = [call for call in calls if not call.startswith("openat") or "TEMP" in call]
    assert changes[:6] == ["mkdir .", "fsync ..", "mkdirat x", "fsync .", "mkdirat x/y", "fsync x"]
    assert changes[6:9] == ["openat x/y/TEMP", "write x/y/TEMP", "fsync x/y/TEMP"]
    assert changes[-1] == "fsync x/y"


@needs_strace
def test_missing_folders_above_the_root_are_synced_too(tmp_path):
    calls = Traced(tmp_path, "create", root="root/deep/er").calls
    made = [call for call in calls if call.startswith(("mkdir", "fsync ..")) and not call.endswith("failed")]
    assert made == [
        "mkdir ../..",
        "fsync ../../..",
        "mkdir ..",
        "fsync ../..",
        "mkdir .",
        "fsync ..",
        "mkdirat a",
    ]


@needs_strace
def test_a_create_that_finds_its_own_bytes_makes_them_durable(tmp_path):
    (tmp_path / "root" / "a").mkdir(parents=True)
    (tmp_path / "root" / "a" / "b").write_bytes(b"new")
    calls = Traced(tmp_path, "create").calls
    assert calls[calls.index("linkat a/TEMP a/b failed") + 1 :] == [
        "openat a/b",
        "fsync a/b",
        "fsync a",
        "unlinkat a/TEMP",
    ]


# Killed at each step.


@needs_strace
@pytest.mark.parametrize(
    ("how", "old", "at", "there"),
    [
        *(("put", old, at, old) for old in (None, b"old") for at in ("write:2", "fsync:1", "renameat:1")),
        *(("put", old, "fsync:2", b"new") for old in (None, b"old")),
        *(("create", None, at, None) for at in ("write:2", "fsync:1", "linkat:1")),
        *(("create", None, at, b"new") for at in ("unlinkat:1", "fsync:2")),
    ],
)
def test_a_kill_at_any_step_leaves_old_or_new(tmp_path, how, old, at, there):
    (tmp_path / "root" / "a").mkdir(parents=True)
    if old is not None:
        (tmp_path / "root" / "a" / "b").write_bytes(old)
    call, when = at.split(":")
    ended = Traced(tmp_path, how, inject=f"{call}:signal=SIGKILL:when={when}").ended
    assert ended.returncode != 0, "it was to be killed"
    store = LocalStore(tmp_path / "root")
    assert [info.key for info in store.list()] == ([] if there is None else ["a/b"])
    assert (store.get("a/b").data if there else store.head("a/b")) == there
    # And whoever comes next is not in the way of what was left behind.
    store.put("a/b", b"next")
    assert store.get("a/b").data == b"next"


@needs_strace
@pytest.mark.parametrize("how", ["put", "create"])
def test_leftovers_of_a_killed_put_go_with_a_later_listing(tmp_path, how):
    root = tmp_path / "root"
    assert Traced(tmp_path, how, inject="fsync:signal=SIGKILL:when=3").ended.returncode != 0
    (left,) = [path for path in (root / "a").iterdir() if path.name.startswith("~writeahead-")]
    store = LocalStore(root)
    for name in ("~writeahead-notes", "~writeahead-0123456789abcdef.bak", "other"):
        (root / "a" / name).write_bytes(b"a person's")
        os.utime(root / "a" / name, (0, 0))
    kept = {path.name for path in (root / "a").iterdir()} - {left.name}
    assert [info.key for info in store.list()] == ["a/other"]
    assert left.exists(), "somebody may still be at it"
    hours_ago = time.time() - 3700
    os.utime(left, (hours_ago, hours_ago))
    assert [info.key for info in store.list()] == ["a/other"]
    assert {path.name for path in (root / "a").iterdir()} == kept


@pytest.mark.parametrize("if_absent", [False, True])
def test_a_put_whose_temporary_file_is_gone_changes_nothing(tmp_path, monkeypatch, if_absent):
    """A process that was suspended for an hour between its sync and its rename."""
    store, sync = LocalStore(tmp_path), os.fsync

    def suspended(file):
        sync(file)
        for path in tmp_path.glob("a/~writeahead-*"):
            os.utime(path, (0, 0))
        assert list(LocalStore(tmp_path).list()) == []

    monkeypatch.setattr("writeahead.stores.durable.sync", suspended)
    with pytest.raises(Unavailable, match="nothing was changed"):
        store.put("a/b", b"1", if_absent=if_absent)
    assert files_below(tmp_path) == {}


@needs_strace
@pytest.mark.parametrize(
    ("when", "folder"), [(1, "."), (2, "a")], ids=["before the root is synced", "before a folder is synced"]
)
def test_the_folder_of_a_killed_process_is_synced_by_the_next(tmp_path, when, folder):
    """Else the next object could be lost with its folder, though its put had returned."""
    ended = Traced(tmp_path, "create", inject=f"fsync:signal=SIGKILL:when={when}").ended
    assert ended.returncode != 0
    assert files_below(tmp_path / "root") == {}
    made = tmp_path / "root" / folder
    assert stat.S_IMODE(made.stat().st_mode) == 0o1700
    parent = os.path.relpath(made.parent, tmp_path / "root")
    calls = Traced(tmp_path, "create").calls
    assert f"fsync {parent}" in calls[: calls.index("linkat a/TEMP a/b")]
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    # Once is enough.
    assert f"fsync {parent}" not in Traced(tmp_path, "create", key="a/c").calls


# What others may have left unsynced.


@pytest.fixture
def synced(monkeypatch):
    """The folders and files that a store syncs, in order; ``*`` is all there are."""
    seen, sync = [], os.fsync
    monkeypatch.setattr(
        "writeahead.stores.durable.sync",
        lambda file: (seen.append(Path(f"/proc/self/fd/{file}").readlink().name), sync(file)),
    )
    monkeypatch.setattr(os, "sync", lambda: seen.append("*"))
    return seen


needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="it takes Linux's /proc")


@needs_proc
@pytest.mark.parametrize("change", [lambda store: store.put("x/y", b"1"), lambda store: store.delete("x/y")])
def test_what_was_read_is_synced_before_a_change_and_once(tmp_path, synced, change):
    for number in range(3):
        LocalStore(tmp_path).put(f"a{number}/b", b"1")
    LocalStore(tmp_path).put("x/y", b"0")
    old = time.time() - 3600
    os.utime(tmp_path / "a2", (old, old))
    store = LocalStore(tmp_path)
    store.get("a0/b")
    store.head("a1/b")
    assert [info.key for info in store.list("a2/")] == ["a2/b"]
    for expected in (["a0", "a1"], []):
        synced.clear()
        change(store)
        assert [name for name in synced if name.startswith("a")] == expected
        assert [name.startswith("a") for name in synced[: len(expected)]] == [True] * len(expected)


@needs_proc
def test_a_folder_that_gets_a_new_one_is_synced_once(tmp_path, synced):
    LocalStore(tmp_path).put("a/b", b"1")
    store = LocalStore(tmp_path)
    store.get("a/b")
    synced.clear()
    store.put("a/c/d", b"1")
    assert synced[:-2] == ["a"]  # then the object, and its name
    assert synced[-1] == "c"


@needs_proc
def test_a_read_during_a_sync_is_synced_again(tmp_path, synced, monkeypatch):
    """As another thread's: what it finds may be newer."""
    LocalStore(tmp_path).put("a/b", b"1")
    store, sync, reads = LocalStore(tmp_path), calls.sync, ["a/b"]
    store.get("a/b")

    def meanwhile(file):
        sync(file)
        while reads:
            store.get(reads.pop())

    monkeypatch.setattr(calls, "sync", meanwhile)
    synced.clear()
    store.put("a/c/d", b"1")
    assert synced.count("a") == 2


@needs_proc
@pytest.mark.parametrize("read", [lambda store: store.get("a/b"), lambda store: list(store.list("a/"))])
def test_a_sync_during_a_read_does_not_count_for_it(tmp_path, synced, monkeypatch, read):
    """What the read finds may be newer than that sync."""
    LocalStore(tmp_path).put("a/b", b"1")
    store, puts = LocalStore(tmp_path), ["x/y"]

    def meanwhile(call, *arguments):
        while puts:
            store.put(puts.pop(), b"1")  # as another thread would
        return call(*arguments)

    for name in ("read_file", "status"):
        monkeypatch.setattr(calls, name, partial(meanwhile, getattr(calls, name)))
    read(store)
    assert puts == []
    synced.clear()
    store.put("x/z", b"1")
    assert synced[0] == "a"


@needs_proc
@pytest.mark.parametrize(("count", "at_once"), [(64, False), (65, True)])
def test_many_that_were_read_are_synced_at_once(tmp_path, synced, count, at_once):
    for number in range(count):
        LocalStore(tmp_path).put(f"a{number}/b", b"1")
    store = LocalStore(tmp_path)
    for number in range(count):
        store.head(f"a{number}/b")
    synced.clear()
    store.put("x/y", b"1")
    assert (synced.count("*"), sum(name.startswith("a") for name in synced)) == (
        (1, 0) if at_once else (0, count)
    )


@needs_proc
def test_threads_share_the_syncs_and_wait_for_them(tmp_path, synced, monkeypatch):
    """A change must not be there before all that was read is, whichever thread syncs it."""
    for key in ("a/b", "x/0"):
        LocalStore(tmp_path).put(key, b"1")
    store, sync = LocalStore(tmp_path), calls.sync
    store.get("a/b")
    synced.clear()
    begun, other_waits, go_on = (threading.Event() for _ in range(3))

    def slow_sync(file):
        if not begun.is_set():
            begun.set()
            assert go_on.wait(30)
        sync(file)

    class Turns(threading.Condition):
        def wait(self, timeout=None):
            other_waits.set()
            return super().wait(timeout)

    monkeypatch.setattr(calls, "sync", slow_sync)
    monkeypatch.setattr(single_flight, "_turns", Turns())
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(store.put, "x/1", b"1")
        assert begun.wait(30)
        second = pool.submit(store.put, "x/2", b"2")
        while not other_waits.wait(0.01) and not second.done():
            pass
        there = files_below(tmp_path)
        go_on.set()
        first.result()
        second.result()
    assert there == {"a/b": b"1", "x/0": b"1"}
    assert synced.count("a") == 1


@needs_proc
def test_a_thread_does_itself_what_another_one_failed_to_sync(tmp_path, synced, monkeypatch):
    for key in ("a/b", "x/0"):
        LocalStore(tmp_path).put(key, b"1")
    store, sync, broken = LocalStore(tmp_path), calls.sync, [OSError(errno.EIO, "broken")]
    store.get("a/b")

    def failing_sync(file):
        if broken:
            raise broken.pop()
        sync(file)

    monkeypatch.setattr(calls, "sync", failing_sync)
    with pytest.raises(Unavailable):
        store.put("x/1", b"1")
    synced.clear()
    store.put("x/2", b"2")
    assert synced[0] == "a"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="it takes a fork")
def test_a_sync_of_another_thread_does_not_block_a_forked_child(tmp_path, monkeypatch):
    LocalStore(tmp_path).put("a/b", b"1")
    store, sync = LocalStore(tmp_path), calls.sync
    store.get("a/b")
    begun, go_on = threading.Event(), threading.Event()

    def slow_sync(file):
        if threading.current_thread() is not threading.main_thread():
            begun.set()
            assert go_on.wait(30)
        sync(file)

    monkeypatch.setattr(calls, "sync", slow_sync)
    with ThreadPoolExecutor(1) as pool:
        put = pool.submit(store.put, "x/1", b"1")
        assert begun.wait(30)
        child = os.fork()
        if not child:
            signal.alarm(30)
            store.put("x/2", b"2")
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        go_on.set()
        put.result()
    assert status == 0
    assert store.get("x/2").data == b"2"


@needs_proc
def test_what_was_read_long_ago_is_on_the_disk_by_itself(tmp_path, synced, monkeypatch):
    for number in range(30):
        LocalStore(tmp_path).put(f"a{number:02d}/b", b"1")
    store, later = LocalStore(tmp_path), iter(range(0, 10**6, 100))
    clock = SimpleNamespace(time=time.time, monotonic=lambda: next(later))
    monkeypatch.setattr("writeahead.stores.durable.time", clock)
    for number in range(30):
        store.get(f"a{number:02d}/b")
    synced.clear()
    store.put("x/y", b"1")
    kept = [name for name in synced if name.startswith("a")]
    assert kept == [f"a{number}" for number in range(25, 30)]


@needs_proc
def test_how_many_were_read_takes_no_memory(tmp_path, synced):
    for number in range(300):
        (tmp_path / f"a{number}").mkdir()
    store = LocalStore(tmp_path)
    for _ in range(2):
        assert list(store.list()) == []
        assert len(store._seen) < 70
        synced.clear()
        store.put(".open/y", b"1")
        store.delete(".open/y")
        assert synced.count("*") == 1


# Failing at each step.

FAILURES = [
    ("write:error=ENOSPC:when=2", "Unavailable", "disk is full"),
    ("write:error=EDQUOT:when=2", "Unavailable", "disk is full or the quota"),
    ("write:error=EIO:when=2", "Unavailable", "input/output error; nothing was changed"),
    ("fsync:error=EIO:when=1", "Unavailable", "input/output error; nothing was changed"),
    ("fsync:error=ENOSPC:when=1", "Unavailable", "disk is full"),
    ("linkat,renameat:error=EACCES:when=1", "AccessDenied", "permission denied"),
    ("linkat,renameat:error=EROFS:when=1", "AccessDenied", "read-only"),
    ("linkat,renameat:error=ENOSPC:when=1", "Unavailable", "disk is full"),
    ("fsync:error=EIO:when=2", "OutcomeUnknown", "could not be synced"),
]


@needs_strace
@pytest.mark.parametrize("how", ["put", "create"])
@pytest.mark.parametrize(("inject", "error", "says"), FAILURES)
def test_a_failure_at_any_step_is_told_and_leaves_no_part(tmp_path, inject, error, says, how):
    root = tmp_path / "root"
    (root / "a").mkdir(parents=True)
    if how == "put":
        (root / "a" / "b").write_bytes(b"old")
    outcome = Traced(tmp_path, how, inject=inject).outcome
    assert outcome["error"] == error
    assert says in outcome["message"]
    assert "\n" not in outcome["message"]
    applied = error == "OutcomeUnknown"
    expected = {"a/b": b"new"} if applied else {"a/b": b"old"} if how == "put" else {}
    assert files_below(root) == expected


@needs_strace
@pytest.mark.parametrize("code", ["EPERM", "EOPNOTSUPP"])
def test_a_filesystem_without_hard_links_is_unsupported(tmp_path, code):
    outcome = Traced(tmp_path, "create", inject=f"linkat:error={code}:when=1").outcome
    assert outcome["error"] == "Unsupported"
    assert "hard links" in outcome["message"]
    assert files_below(tmp_path / "root") == {}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("a small disk can't be mounted here: it takes root and the right to mount")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_folder_exists_once_it_is_made(tmp_path):
    store = LocalStore(tmp_path / "new")
    assert not store.exists()
    store.put("a", b"1")
    store.delete("a")
    assert store.exists()
    (tmp_path / "file").write_text("")
    # It is no store, which the verbs say.
    assert LocalStore(tmp_path / "file").exists()


def test_a_really_full_disk(small_disk):
    store = LocalStore(small_disk / "store")
    store.put("a/b", b"old")
    for if_absent, key in [(False, "a/b"), (True, "a/c")]:
        with pytest.raises(StoreError, match=r"disk is full.*nothing was changed"):
            store.put(key, b"x" * 100_000, if_absent=if_absent)
    assert files_below(small_disk / "store") == {"a/b": b"old"}
    store.put("a/b", b"new")
    assert store.get("a/b").data == b"new"


def test_short_writes_are_gone_on_with(tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:7]))
    LocalStore(tmp_path).put("a", bytes(range(256)))
    assert (tmp_path / "a").read_bytes() == bytes(range(256))


def test_short_reads_are_gone_on_with(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(bytes(range(256)))
    read = os.read
    monkeypatch.setattr(os, "read", lambda file, size: read(file, min(size, 7)))
    assert LocalStore(tmp_path).get("a").data == bytes(range(256))


def test_a_read_that_fails_half_way_gives_nothing(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(bytes(range(256)))
    read, parts = os.read, iter(range(2))

    def failing(file, size):
        if next(parts, None) is None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read(file, min(size, 7))

    monkeypatch.setattr(os, "read", failing)
    with pytest.raises(StoreError, match="get 'a': input/output error"):
        LocalStore(tmp_path).get("a")


# Permissions.


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """Root may do anything, so be somebody else for a while."""
    was = os.geteuid()
    if was == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(was)


@pytest.fixture
def own_folder(tmp_path_factory) -> Iterator[Path]:
    """A folder whose owner is unprivileged, below folders that anybody may pass."""
    folder = Path(subprocess.check_output(["mktemp", "-d", "/tmp/writeahead-test-XXXXXX"], text=True).strip())
    if os.geteuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
    yield folder
    shutil.rmtree(folder)


def test_a_read_only_folder(own_folder):
    store = LocalStore(own_folder)
    with unprivileged():
        store.put("a/b", b"1")
        (own_folder / "a").chmod(0o500)
        own_folder.chmod(0o500)
        for call in (
            lambda: store.put("a/b", b"2"),
            lambda: store.put("a/c", b"2", if_absent=True),
            lambda: store.put("new/b", b"2"),
            lambda: store.delete("a/b"),
        ):
            with pytest.raises(AccessDenied, match="permission denied; check the folder's owner"):
                call()
        assert store.get("a/b").data == b"1"
    assert files_below(own_folder) == {"a/b": b"1"}


def test_an_unreadable_folder_is_not_taken_for_an_empty_one(own_folder):
    store = LocalStore(own_folder)
    with unprivileged():
        store.put("a/b", b"1")
        (own_folder / "a").chmod(0o000)
        for call in (
            lambda: list(store.list()),
            lambda: store.get("a/b"),
            lambda: store.head("a/b"),
            lambda: store.put("a/b", b"1", if_absent=True),
            lambda: store.delete("a/b"),
        ):
            with pytest.raises(AccessDenied):
                call()


def test_files_and_folders_are_for_their_owner_only(tmp_path):
    LocalStore(tmp_path / "root").put("a/b", b"1")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "root").rglob("*")}
    assert modes == {"a": 0o700, "b": 0o600}
    assert stat.S_IMODE((tmp_path / "root").stat().st_mode) == 0o700


# Links, and things in the way.


def test_replacing_a_link_replaces_the_link(tmp_path):
    (tmp_path / "outside").write_bytes(b"secret")
    root = tmp_path / "root"
    root.mkdir()
    (root / "file").symlink_to(tmp_path / "outside")
    LocalStore(root).put("file", b"x")
    assert (tmp_path / "outside").read_bytes() == b"secret"
    assert not (root / "file").is_symlink()


def test_the_root_itself_may_be_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    LocalStore(tmp_path / "link").put("a/b", b"1")
    assert files_below(tmp_path / "real") == {"a/b": b"1"}


def test_an_object_and_a_folder_of_one_name(tmp_path):
    store = LocalStore(tmp_path)
    store.put("a", b"1")
    store.put("b/c", b"1")
    for key in ("a/x", "b"):
        for if_absent in (False, True):
            with pytest.raises(InvalidKey, match="can't have the same name"):
                store.put(key, b"2", if_absent=if_absent)
        with pytest.raises(NotFound):
            store.get(key)
        assert store.head(key) is None
        store.delete(key)
    assert files_below(tmp_path) == {"a": b"1", "b/c": b"1"}


@pytest.mark.parametrize("below", [".", "below"])
def test_a_file_where_the_root_should_be(tmp_path, below):
    (tmp_path / "root").write_bytes(b"precious")
    store = LocalStore(tmp_path / "root" / below)
    for call in (
        lambda: store.put("a", b"1"),
        lambda: store.get("a"),
        lambda: store.head("a"),
        lambda: list(store.list()),
        lambda: store.delete("a"),
    ):
        with pytest.raises(Unsupported, match="a file is where the store's folder should be"):
            call()
    assert (tmp_path / "root").read_bytes() == b"precious"


def test_what_is_no_object_is_not_listed(tmp_path):
    store = LocalStore(tmp_path)
    store.put("a/b", b"1")
    (tmp_path / "a" / "~writeahead-0123").write_bytes(b"left behind")
    (tmp_path / "a" / "my notes.txt").write_bytes(b"a person's")
    (tmp_path / "a" / "~folder").mkdir()
    (tmp_path / "a" / "~folder" / "c").write_bytes(b"a person's")
    os.mkfifo(tmp_path / "fifo")
    assert [info.key for info in store.list()] == ["a/b"]
    with pytest.raises(NotFound):
        store.get("fifo")
    with pytest.raises(InvalidKey):
        store.put("fifo", b"1", if_absent=True)


ODD_ORDER = sorted(f"{name}{end}" for name in "abcdefg" for end in ("", "-x", ".x/y", "0"))


def test_a_folder_of_more_than_one_page_is_listed_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr("writeahead.stores.local._PAGE", 3)
    store = LocalStore(tmp_path)
    for key in ODD_ORDER:
        store.put(key, b"")
    assert [info.key for info in store.list()] == ODD_ORDER
    for start_after in ODD_ORDER:
        assert [info.key for info in store.list(start_after=start_after)] == [
            k for k in ODD_ORDER if k > start_after
        ]


@pytest.fixture
def read_names(monkeypatch):
    """How often the names of each folder were read, and an answer with names twice if asked for."""
    real, counted = os.scandir, Counter()
    counted.twice = False

    @contextlib.contextmanager
    def scandir(folder):
        counted[os.stat(folder).st_ino] += 1  # noqa: PTH116 - it may be a descriptor
        with real(folder) as entries:
            found = list(entries)
        # In the order of a hash, as many file systems have it.
        yield iter(sorted(found * (1 + counted.twice), key=lambda entry: entry.name[::-1]))

    monkeypatch.setattr(os, "scandir", scandir)
    return counted


@pytest.mark.parametrize("asked", [{}, {"start_after": "c"}, {"prefix": "s"}])
def test_the_names_of_each_folder_are_read_once(tmp_path, monkeypatch, read_names, asked):
    monkeypatch.setattr("writeahead.stores.local._PAGE", 3)
    for number in range(20):
        (tmp_path / f"s{number:02d}" / "journal").mkdir(parents=True)
        for name in (*"abcde", "journal/000001.json"):
            (tmp_path / f"s{number:02d}" / name).touch()
    assert len(list(LocalStore(tmp_path).list(**asked))) == 120
    assert (len(read_names), set(read_names.values())) == (41, {1})


def test_a_session_is_found_without_the_names_of_others(tmp_path, read_names):
    for number in range(20):
        (tmp_path / f"s{number:02d}").mkdir()
        (tmp_path / f"s{number:02d}" / "a").touch()
    assert [info.key for info in LocalStore(tmp_path).list("s07/")] == ["s07/a"]
    assert list(read_names) == [(tmp_path / "s07").stat().st_ino]


def test_names_that_a_file_system_tells_twice(tmp_path, monkeypatch, read_names):
    monkeypatch.setattr("writeahead.stores.local._PAGE", 3)
    store = LocalStore(tmp_path)
    for key in ODD_ORDER:
        store.put(key, b"")
    read_names.twice = True
    assert [info.key for info in store.list()] == ODD_ORDER


def test_a_refused_create_leaves_no_temporary_file(tmp_path):
    store = LocalStore(tmp_path)
    store.put("a", b"1")
    with pytest.raises(AlreadyExists):
        store.put("a", b"2", if_absent=True)
    assert files_below(tmp_path) == {"a": b"1"}


def test_check_leaves_no_folder(tmp_path):
    store = LocalStore(tmp_path / "root")
    assert store.check().ok
    assert list((tmp_path / "root").iterdir()) == []


# Names and URLs.


def test_the_name_is_a_url_that_opens_the_same_folder(tmp_path):
    folder = tmp_path / "with space and ü"
    store = open_store(str(folder))
    store.put("a", b"1")
    assert open_store(store.name).get("a").data == b"1"
    assert files_below(folder) == {"a": b"1"}


def test_a_relative_path_stays_where_it_was(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = open_store("./artifacts")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    store.put("a", b"1")
    assert files_below(tmp_path) == {"artifacts/a": b"1"}


def test_home_is_known(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_store("~/artifacts").name == (tmp_path / "artifacts").as_uri()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "give a folder or a URL"),
        ("a\nb", "give a folder or a URL"),
        ("file://server/share", "three slashes"),
        ("file:relative", "write file://"),
        ("file:///a?mode=0644", "unknown option 'mode'"),
        ("file:///a#b", "%23"),
        ("memory://", "name"),
        ("memory://a/b", "name"),
        ("gopher://x", "unknown scheme; known: az, file, gs, memory, s3"),
        ("s3:bucket", "write s3://"),
        ("http://[x", "can't be read|unknown scheme"),
    ],
)
def test_urls_that_are_refused(url, says):
    with pytest.raises(InvalidInput, match=says) as caught:
        open_store(url)
    assert len(str(caught.value).splitlines()) == 1
