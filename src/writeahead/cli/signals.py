"""SIGTERM and Ctrl-C: the request under way ends, and then the run, most often to be resumed."""

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator

from writeahead.cli.exit_code import ExitCode

__all__ = ["stop_on_signals"]

# Windows has no SIGTERM from another process, but Ctrl-Break, which one can send to a group: the
# documentation of os.kill and signal.CTRL_BREAK_EVENT.
_NUMBERS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGBREAK") if hasattr(signal, name)]
_STOPPING = b"stopping after the request under way; Ctrl-C again exits at once\n"


@contextlib.contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """Yield an event that SIGTERM and the first SIGINT set. A second SIGINT exits with code 130.

    That exit is as safe as a kill -9: the session can be resumed at once on this machine, and when
    its lease has run out on another.

    A thread waits for the signals through `signal.set_wakeup_fd`. A handler must not set the event
    itself: it runs in the main thread, which may hold the event's lock at that moment, and would
    wait for itself.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # only the main thread can set signal handlers
        return
    reader, writer = socket.socketpair()  # on Windows set_wakeup_fd takes sockets only
    writer.setblocking(False)  # as set_wakeup_fd demands
    wakeup = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    # A signal that the parent ignores, as nohup and a shell's & do, stays ignored.
    wanted = [number for number in _NUMBERS if signal.getsignal(number) is not signal.SIG_IGN]
    handlers = {number: signal.signal(number, _pass) for number in wanted}
    watcher = threading.Thread(target=_watch, args=(reader, stop), daemon=True)
    watcher.start()
    try:
        yield stop
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup)
        writer.close()
        watcher.join()
        reader.close()


def _pass(_number: int, _frame: object) -> None:
    """Replace the default action. `_watch` gets the signal through the socket."""


def _watch(reader: socket.socket, stop: threading.Event) -> None:
    interrupts = 0
    # Each byte is a signal's number; none left means that the writing end is closed.
    while byte := reader.recv(1):
        if byte[0] not in _NUMBERS:
            continue
        interrupts += byte[0] == signal.SIGINT
        if interrupts > 1:
            os._exit(ExitCode.INTERRUPTED)
        if not stop.is_set():
            stop.set()
            with contextlib.suppress(OSError):
                os.write(2, _STOPPING)
