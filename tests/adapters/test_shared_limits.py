"""Slots and rates in a folder: what frees them, what is refused, and what is said of it."""

import contextlib
import errno
import os
import shutil
import signal
import stat
import threading
import time

import pytest
from pyrate_limiter import Rate, RateItem, StateBucket, TokenBucket

from writeahead.adapters import file_locks
from writeahead.adapters.dataverse import adapter_from_settings
from writeahead.adapters.dataverse.webapi.protection import (
    Protection,
    RateLimited,
    ServiceLimits,
    protection_of,
)
from writeahead.adapters.limits import Deadline, call_limits
from writeahead.adapters.shared_rate import FileState
from writeahead.adapters.shared_slots import SharedSlots
from writeahead.errors import Applied, InvalidInput, TransientError

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "limits"


def free_now(slots):
    """How many slots may be taken now."""
    with contextlib.ExitStack() as stack:
        for count in range(100):
            try:
                stack.enter_context(slots.slot(0.001))
            except TransientError:
                return count
    return 100


def child(work):
    """Do something in a child; return its exit code."""
    pid = os.fork()
    if not pid:
        signal.alarm(30)
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


# Slots


def test_two_that_share_a_folder_have_so_many_together(folder):
    one, other = SharedSlots(folder, 3), SharedSlots(folder, 3)
    with one.slot(), one.slot():
        assert free_now(other) == 1
        with other.slot(), pytest.raises(TransientError, match="each of 3 shared slots") as caught:
            one.slot(0.01).__enter__()
    assert caught.value.applied is Applied.NO
    assert free_now(one) == free_now(other) == 3


def test_another_folder_is_not_concerned(folder, tmp_path):
    with SharedSlots(folder, 1).slot():
        assert free_now(SharedSlots(tmp_path / "other", 1)) == 1


def test_a_slot_is_free_after_an_error(folder):
    slots = SharedSlots(folder, 1)
    with pytest.raises(ZeroDivisionError), slots.slot():
        raise ZeroDivisionError
    assert free_now(slots) == 1


def test_threads_of_two_processes_are_never_too_many_and_all_are_served(folder):
    both = [SharedSlots(folder, 3), SharedSlots(folder, 3)]
    lock, at_once, most, served = threading.Lock(), [0], [0], []

    def work(number):
        for _ in range(5):
            with both[number % 2].slot():
                with lock:
                    at_once[0] += 1
                    most[0] = max(most[0], at_once[0])
                time.sleep(0.0005)
                with lock:
                    at_once[0] -= 1
                    served.append(number)

    threads = [threading.Thread(target=work, args=[number]) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] <= 3
    assert len(served) == 60
    assert free_now(both[0]) == 3  # none was left to a thread that had gone


def test_who_waits_in_front_comes_before_newcomers(folder):
    """A process that sends without a pause does not starve another one."""
    greedy, patient = SharedSlots(folder, 1), SharedSlots(folder, 1)
    is_served, turns = threading.Event(), 0

    def wait():
        with patient.slot():
            is_served.set()

    with greedy.slot():
        waiting = threading.Thread(target=wait)
        waiting.start()
        while (front := greedy._locks.take("front")) is not None:
            greedy._locks.free(front)
            time.sleep(0.001)
    while not is_served.is_set():
        with greedy.slot():
            turns += 1
    waiting.join()
    assert turns <= 1


def test_a_slot_is_not_passed_on_for_ever(folder, monkeypatch):
    """The threads of one process pass it on for a time; then it is for others."""
    slots = SharedSlots(folder, 1)
    seen = []
    free = slots._free
    monkeypatch.setattr(slots, "_free", lambda slot: seen.append(slot) or free(slot))
    with slots.slot():
        other = threading.Thread(target=lambda: slots.slot().__enter__())
        other.start()
        while not slots._waiting:
            time.sleep(0.001)
        monkeypatch.setattr("writeahead.adapters.shared_slots._TURN", 0.0)
    assert len(seen) == 1
    other.join()


def test_nothing_waits_beyond_the_run(folder):
    slots, ends_at = SharedSlots(folder, 1), time.monotonic() + 0.01
    with slots.slot(), call_limits(lambda: ends_at - time.monotonic(), None), pytest.raises(TransientError):
        slots.slot().__enter__()


@pytest.mark.parametrize("count", [0, -1, 1.5, True, "3"])
def test_what_is_no_count(folder, count):
    with pytest.raises(InvalidInput, match="whole number"):
        SharedSlots(folder, count)


@forks
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_neither_keeps_nor_frees_what_its_parent_holds(folder):
    slots = SharedSlots(folder, 2)
    with slots.slot():

        def leave():
            assert free_now(slots) == 1
            inner.close()  # of the parent
            assert free_now(slots) == 1

        inner = contextlib.ExitStack()
        inner.enter_context(slots.slot())
        inner.pop_all().close()
        inner.enter_context(slots.slot())
        inner.close()
        assert child(leave) == 0
        assert free_now(slots) == 1
    ready, done = os.pipe(), os.pipe()
    with slots.slot():
        pid = os.fork()
        if not pid:
            signal.alarm(30)
            os.write(ready[1], b"x")
            os.read(done[0], 1)
            os._exit(0)
        os.read(ready[0], 1)
    # The child lives, and holds nothing.
    assert free_now(slots) == 2
    os.write(done[1], b"x")
    os.waitpid(pid, 0)
    for end in (*ready, *done):
        os.close(end)


@forks
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_within_a_slot_leaves_it_to_the_parent(folder):
    slots = SharedSlots(folder, 1)
    with contextlib.ExitStack() as stack:
        stack.enter_context(slots.slot())
        assert child(lambda: stack.close() or free_now(slots) == 0 or os._exit(3)) == 0
        assert free_now(slots) == 0
    assert free_now(slots) == 1


def test_a_file_that_was_removed_is_made_again(folder):
    one, other = SharedSlots(folder, 1), SharedSlots(folder, 1)
    with one.slot():
        (folder / "slot-0").unlink()
    with one.slot():
        assert free_now(other) == 0


def test_a_file_that_is_removed_while_it_is_locked_is_no_slot(folder, monkeypatch):
    """Its lock would be on a file that no other process finds."""
    slots, lock = SharedSlots(folder, 1), file_locks._lock

    def remove_first(descriptor):
        monkeypatch.undo()
        (folder / "front").unlink()
        return lock(descriptor)

    with slots.slot():
        pass
    monkeypatch.setattr(file_locks, "_lock", remove_first)
    assert slots._locks.take("front") is None
    held = slots._locks.take("front")
    assert SharedSlots(folder, 1)._locks.take("front") is None
    slots._locks.free(held)


def test_a_slot_that_comes_as_its_waiter_gives_up_is_free_for_others(folder, monkeypatch):
    slots = SharedSlots(folder, 1)
    slot = slots._take(Deadline())

    def give_up(_deadline):
        slots._give_back(slot)
        raise TransientError("too late")

    monkeypatch.setattr(slots, "_passed_on_or_turn", give_up)
    with pytest.raises(TransientError, match="too late"):
        slots._take(Deadline())
    assert free_now(SharedSlots(folder, 1)) == 1


@forks
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_that_outlives_a_killed_process_holds_nothing_of_it(folder):
    slots, (ready, tell), (wait, end) = SharedSlots(folder, 1), os.pipe(), os.pipe()
    victim = os.fork()
    if not victim:
        signal.alarm(30)
        with slots.slot():
            if os.fork():
                signal.pause()
            signal.alarm(30)
            os.close(end)
            os.write(tell, b"x")
            os.read(wait, 1)
            os._exit(0)
    os.read(ready, 1)
    os.kill(victim, signal.SIGKILL)
    os.waitpid(victim, 0)
    assert free_now(slots) == 1
    for pipe in (ready, tell, wait, end):
        os.close(pipe)


@forks
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_is_not_stuck_on_what_another_thread_held(folder):
    slots = SharedSlots(folder, 1)
    with slots._changed:
        slots._is_looking = True  # as a thread does that the child has not
        assert child(lambda: free_now(slots) == 1 or os._exit(3)) == 0
        slots._is_looking = False


# The folder


@pytest.fixture
def umask():
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no modes")
@pytest.mark.parametrize(("mode", "files"), [(0o700, 0o600), (0o770, 0o660), (0o777, 0o666)])
def test_files_are_as_open_as_the_folder_whatever_the_umask(folder, umask, mode, files):
    folder.mkdir()
    folder.chmod(mode)
    assert free_now(SharedSlots(folder, 2)) == 2
    FileState(folder).check(TokenBucket(), [Rate(1, 1000)], 0, 1)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert modes == dict.fromkeys(["slot-0", "slot-1", "front", "proof", "rate"], files)


def test_a_new_folder_is_for_this_user_alone(folder):
    SharedSlots(folder / "deep", 1)
    assert stat.S_IMODE((folder / "deep").stat().st_mode) == 0o700


@forks
@pytest.mark.skipif(getattr(os, "geteuid", int)() != 0, reason="only root can be two users")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_two_users_share_a_folder(tmp_path_factory, umask):
    folder = tmp_path_factory.mktemp("shared")
    for path in (folder, *folder.parents[:3]):
        path.chmod(0o777 if path == folder else 0o755)
    slots = SharedSlots(folder, 2)

    def as_another():
        os.setgid(65534)
        os.setuid(65534)
        assert free_now(SharedSlots(folder, 2)) == 1

    with slots.slot():
        assert child(as_another) == 0


def test_a_file_in_the_folders_place_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput, match=r"limits can't be shared in .*file: .*exists"):
        SharedSlots(tmp_path / "file", 1)


def test_a_link_in_a_files_place_is_not_followed(folder, tmp_path):
    SharedSlots(folder, 1)
    (folder / "slot-0").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(TransientError, match="not sent"):
        SharedSlots(folder, 1).slot(0.01).__enter__()
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EROFS, errno.ENOSPC, errno.EACCES])
@pytest.mark.parametrize("where", ["open", "lock"])
def test_what_the_system_refuses_is_said(folder, monkeypatch, code, where):
    good, state = SharedSlots(folder, 1), FileState(folder)

    def refuse(*_args, **_more):
        raise OSError(code, os.strerror(code))

    if where == "open":
        monkeypatch.setattr(file_locks.os, "open", refuse)
    else:
        monkeypatch.setattr(file_locks, "_lock", refuse)
    for make in (lambda: SharedSlots(folder, 1), lambda: FileState(folder)):
        with pytest.raises(InvalidInput, match=os.strerror(code)):
            make()
    for send in (lambda: good.slot(1).__enter__(), lambda: state.check(TokenBucket(), [Rate(1, 9)], 0, 1)):
        with pytest.raises(TransientError, match=f"not sent: .*{os.strerror(code)}") as caught:
            send()
        assert caught.value.applied is Applied.NO
    monkeypatch.undo()
    assert free_now(good) == 1


def test_a_file_system_that_does_not_lock_is_found_out(folder, monkeypatch):
    monkeypatch.setattr(file_locks, "_lock", lambda _descriptor: True)
    with pytest.raises(InvalidInput, match="does not lock files: choose a folder on a local disk"):
        SharedSlots(folder, 1)


def test_a_folder_that_was_removed_is_said(folder):
    slots = SharedSlots(folder, 1)
    shutil.rmtree(folder)
    with pytest.raises(TransientError, match="not sent: the shared slots: No such file"):
        slots.slot(1).__enter__()


# Rates


class Time:
    def __init__(self):
        self.seconds = 1e9

    def __call__(self):
        return self.seconds


@pytest.fixture
def now():
    return Time()


RATE = Rate(100, 10_000, burst=5)  # 10 a second


def bucket(folder, now):
    return StateBucket([RATE], algorithm=TokenBucket(), store=FileState(folder, now=now))


def sends(bucket):
    for count in range(1000):
        # The time of an item is its process's own, and does not count.
        if not bucket.put(RateItem("x", count)):
            return count
    return 1000


def test_two_processes_spend_from_one_bucket(folder, now):
    one, other = bucket(folder, now), bucket(folder, now)
    assert (sends(one), sends(other)) == (5, 0)
    now.seconds += 0.31
    assert (sends(other), sends(one)) == (3, 0)
    now.seconds += 1000
    assert sends(one) == 5


def test_who_has_to_wait_learns_how_long(folder, now):
    one = bucket(folder, now)
    sends(one)
    item = RateItem("x", 7)
    assert not one.put(item)
    assert one.waiting(item) == 100


@pytest.mark.parametrize(
    "content", [b"", b"no JSON", b'"text"', b"[1, 2]", b"[-5]", b"[NaN]", b"[null]", b"\xff"]
)
def test_a_file_that_can_t_be_read_counts_as_all_spent(folder, now, content):
    one = bucket(folder, now)
    sends(one)
    (folder / "rate").write_bytes(content.ljust(128) if content else content)
    now.seconds += 0.21
    # An empty file is a new one.
    assert sends(bucket(folder, now)) == (0 if content else 5)
    now.seconds += 10
    assert sends(one) == 5


def test_a_clock_that_is_set_back_costs_one_burst_at_most(folder, now):
    one = bucket(folder, now)
    sends(one)
    now.seconds -= 3600
    assert sends(one) == 0
    now.seconds += 0.5
    assert sends(one) == 5


def test_a_file_that_stays_locked_sends_nothing(folder, now, monkeypatch):
    monkeypatch.setattr("writeahead.adapters.shared_rate._PATIENCE", 0.01)
    one, locks = bucket(folder, now), file_locks.FileLocks(folder)
    held = locks.take("rate")
    with pytest.raises(TransientError, match="another process holds its file"):
        one.put(RateItem("x", 0))
    locks.free(held)
    assert sends(one) == 5


# Dataverse


URL = "https://org.example"


def test_two_processes_of_one_environment(folder):
    limits = ServiceLimits(concurrent=2, requests=120)
    one, other = Protection(limits), Protection(limits)
    for protection in (one, other):
        protection.share(folder)
    with one.slot(1), one.slot(1), pytest.raises(RateLimited, match="each of 2 shared slots"):
        other.slot(0.01).__enter__()
    sent = 2
    with contextlib.suppress(RateLimited):
        for protection in [one, other] * 20:
            with protection.slot(0.01):
                sent += 1
    assert sent == 10  # a burst: a twelfth


def test_a_pause_is_told_before_a_shared_slot_is_waited_for(folder):
    protection = Protection(ServiceLimits(concurrent=1))
    protection.share(folder)
    with SharedSlots(folder, 1).slot():
        protection.pause(60)
        with pytest.raises(RateLimited, match="asked to wait"):
            protection.slot(None).__enter__()


def test_narrower_limits_hold_in_the_folder_too(folder):
    protection = Protection(ServiceLimits(concurrent=4, requests=240))
    protection.share(folder)
    protection.tighten(ServiceLimits(concurrent=2, requests=120))
    with protection.slot(1), protection.slot(1), pytest.raises(RateLimited):
        protection.slot(0.01).__enter__()
    assert protection._slots._count == 2


def test_a_second_folder_is_refused(folder, tmp_path):
    protection_of(URL, share_in=folder)
    assert protection_of(URL, share_in=folder) is protection_of(URL)
    with pytest.raises(InvalidInput, match="can't be shared in two folders"):
        protection_of(URL, share_in=tmp_path / "other")


def test_each_environment_has_a_folder_and_none_names_it(folder):
    protection_of(URL, share_in=folder)
    protection_of("https://other.example", share_in=folder)
    assert len(list(folder.iterdir())) == 2
    assert not [path for path in folder.rglob("*") if "example" in path.name]


@forks
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_goes_on_sharing(folder):
    protection = Protection(ServiceLimits(concurrent=1, requests=24))
    protection.share(folder)

    def refused():
        with pytest.raises(RateLimited), protection.slot(0.01):
            pass

    with protection.slot(1):
        assert child(refused) == 0  # for its parent has the slot
    with protection.slot(1):
        pass
    assert child(refused) == 0  # for its parent has sent what may be sent


def given(**settings):
    return adapter_from_settings(url=URL, token=lambda: "token", environ={}, **settings)


def test_settings_share_and_divide(folder):
    adapter = given(share_limits_in=str(folder), divide_limits_by="4")
    protection = adapter._client._endpoint.protection
    assert protection.limits == ServiceLimits(13, 1475)
    assert protection._folder.parent == folder
    assert (protection._slots._count, protection._bucket.store) == (13, protection._rate)


@pytest.mark.parametrize("parts", [1, 3, 4, 7, 52])
def test_all_parts_together_are_within_the_limits(parts):
    part = ServiceLimits().divided_by(parts)
    assert (part.concurrent * parts, part.requests * parts) <= (52, 5900)
    assert (part.concurrent + 1) * parts > 52
    assert (part.requests + 1) * parts > 5900


@pytest.mark.parametrize("limits", [{"max_concurrent": 3}, {"max_requests": 3}])
def test_more_processes_than_requests_are_refused(limits):
    with pytest.raises(InvalidInput, match="can't be divided by 4: run fewer processes"):
        given(**limits, divide_limits_by=4)
    given(**limits, divide_limits_by=3)


def test_a_folder_that_can_t_be_used_is_a_wrong_setting(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput, match="limits can't be shared in"):
        given(share_limits_in=tmp_path / "file")
