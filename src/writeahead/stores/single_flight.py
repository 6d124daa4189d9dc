"""Work that several threads need at the same time, done by one of them while the others wait."""

import os
import threading
from collections.abc import Callable, Hashable

__all__ = ["once"]

_under_way: set[Hashable] = set()
_turns = threading.Condition()


def once(key: Hashable, is_needed: Callable[[], bool], work: Callable[[], None], *, wait: bool) -> bool:
    """Do some work, unless another thread did it meanwhile.

    Args:
        key: What tells it from other work in this process.
        is_needed: Whether it is still to be done; asked when no thread does it. It must be quick.
        work: Does it. Once it is done, it is needed no more; if it fails, the next thread tries.
        wait: Whether to wait for a thread that does it already.

    Returns:
        Whether it is done; False only without ``wait``.

    Raises:
        Exception: What ``work`` raises.
    """
    begun = False
    try:
        with _turns:
            while key in _under_way:
                if not wait:
                    return False
                _turns.wait()
            if not is_needed():
                return True
            begun = True
            _under_way.add(key)
        work()
    finally:
        if begun:
            with _turns:
                _under_way.discard(key)
                _turns.notify_all()
    return True


def _forget_threads() -> None:
    """Begin anew in a forked child, which has no thread but the one that forked."""
    global _turns  # noqa: PLW0603 - one for the process
    _turns = threading.Condition()
    _under_way.clear()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_forget_threads)
