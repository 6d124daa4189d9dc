"""Runs of `strand_schedules` whose independent operations are under way at the same time.

Each operation is a strand: a thread of an actor that stands still as the actor itself does, and
before it takes the journal's lock. So the world chooses among the strands of all actors.
"""

import threading
from collections.abc import Callable

from tests.support.strand_schedules import Actor, Killed
from writeahead.protocol.stages import SideBySide, Unit


class Strand(Actor):
    """One operation of an actor, in a thread. It dies with its actor, as that dies with it."""

    def __init__(self, owner: Actor, name: str, work: Callable[[], None]) -> None:
        self.owner, self.name, self.world = owner, f"{owner.name}/{name}", owner.world
        self.at, self.wakes_at, self.leap = "", 0.0, 0.0
        self.report, self.error, self.is_over = None, None, False
        self.needs: Callable[[], bool] | None = None
        self.strands: list[Actor] = []
        self._answer = ""
        self._go, self._stands = threading.Lock(), threading.Lock()
        self._go.acquire()
        self._stands.acquire()
        self._thread = threading.Thread(target=self._work, args=(work,), name=owner.name, daemon=True)
        owner.strands.append(self)
        self.world.actors[self.name] = self
        self._thread.start()
        self._stands.acquire()

    def _work(self, work: Callable[[], None]) -> None:
        try:
            self.owner.hold("start")
            work()
        except Killed:
            pass
        except BaseException as error:
            self.error = error
        self.is_over = True
        self._stands.release()

    # They share memory, so what one has done is part of what the others have.
    @property
    def history(self) -> int:
        return self.owner.history

    @history.setter
    def history(self, value: int) -> None:
        self.owner.history = hash((value, self.name))

    def can_go(self) -> bool:
        return super().can_go() and (self.needs is None or self.needs())

    def kill(self) -> None:
        self.owner.kill()


class SteppedLock:
    """A lock before which a strand stands still, until it is free and its turn."""

    def __init__(self, actor: Actor) -> None:
        self.actor = actor
        self.is_held = False

    def __enter__(self) -> None:
        here = self.actor._here()
        if isinstance(here, Strand):
            here.needs = lambda: not self.is_held
            self.actor.hold("lock")
            here.needs = None
        self.is_held = True

    def __exit__(self, *_: object) -> None:
        self.is_held = False


def in_strands(side: SideBySide, units: list[Unit], at_once: int) -> None:
    """Take the place of `SideBySide._in_threads`."""
    actor = getattr(side.emission.context.store, "actor", None)
    if actor is None:  # a recovery, which no one steps
        for unit in units:
            side._carry(unit)
        return
    side.emission.journal._writer = SteppedLock(actor)
    left = iter(units)

    def work() -> None:
        for unit in left:
            side._carry(unit)

    for number in range(at_once):
        Strand(actor, f"{number + 1}", work)
    actor.hold("join")
