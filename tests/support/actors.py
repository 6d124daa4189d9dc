"""Actors of a schedule: real runs in threads, each told what each of its calls returns.

An actor stands still before each call that it makes of the store or the remote, and while it
sleeps. It never makes the call itself: the world makes it, and tells the actor what came of it and
how late it is. So what an actor does next depends on nothing but what it was told so far. A
`Course` keeps each `Moment` at which its actor stood, and runs the real code only for what it was
never told before; that is what makes it cheap to follow each of a great many schedules.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any, Protocol, TypeAlias

from tests.support.stepping import Remote, SteppedClock, SteppingAdapter, Time, TimedStore, answered
from writeahead.adapters.base import Adapter
from writeahead.model import Receipt
from writeahead.protocol.retry import Clock
from writeahead.stores.base import ArtifactStore, ObjectInfo
from writeahead.testing import WrapperStore

__all__ = ["Course", "Moment", "Place", "Run", "Told", "Tools"]

# Threads that stand where they were last needed: more than a few of them are hardly ever asked.
_MOST_THREADS = 4


class Place(Protocol):
    """Where calls are made: the state of a world."""

    @property
    def stores(self) -> Mapping[str, TimedStore]: ...
    @property
    def remote(self) -> Remote: ...
    @property
    def time(self) -> Time: ...


# Makes a visible call, given what is to become of it.
Call: TypeAlias = Callable[[Place, str], Any]


@dataclass(frozen=True)
class Tools:
    """What an actor's run is given; the archive is another store of the same world."""

    store: ArtifactStore
    adapter: Adapter
    clock: Clock
    archive: ArtifactStore | None = None


Run: TypeAlias = Callable[[Tools], Any]


@dataclass(frozen=True, slots=True)
class Told:
    """What an actor learns at a moment: how late it is, and what came of its call.

    ``leap`` says instead that its wall clock was set, and nothing else.
    """

    now: float
    value: Any = None
    error: Exception | None = None
    leap: float = 0.0

    @property
    def mark(self) -> tuple[object, ...]:
        """Tells it from all else that could be said."""
        return self.now, repr(self.value), repr(self.error), self.leap


@dataclass(eq=False, slots=True)
class Moment:
    """Where an actor stands.

    Attributes:
        at: Its next step, in words.
        call: Makes that step's call, if it is one.
        wakes_at: When its sleep is over.
        is_over: It has come to its end, with its report or its error.
    """

    at: str
    call: Call | None = None
    wakes_at: float = 0.0
    is_over: bool = False
    report: Any = None
    error: BaseException | None = None
    before: tuple["Moment", Told] | None = None
    next: dict[tuple[object, ...], "Moment"] = field(default_factory=dict)

    def way(self) -> list[Told]:
        """All that the actor was told up to here."""
        found, moment = [], self
        while moment.before:
            moment, told = moment.before
            found.append(told)
        return found[::-1]


class Course:
    """All that one actor does, for whatever it is told.

    Attributes:
        start: The moment before its first step.
        runs: How often the real code was run.
    """

    def __init__(
        self, name: str, run: Run, skew: float, stores: Sequence[str], page: int | None = None
    ) -> None:
        self.start = Moment("start")
        self.runs = 0
        self._means = (name, run, skew, stores, page)
        self._threads: deque[tuple[Moment, _Thread]] = deque()

    def after(self, moment: Moment, told: Told) -> Moment:
        """Where it stands once it was told this."""
        found = moment.next.get(told.mark)
        if found is None:
            thread = self._thread_at(moment)
            found = thread.tell(told, moment)
            found.before = (moment, told)
            moment.next[told.mark] = found
            self._keep(found, thread)
        return found

    def _thread_at(self, moment: Moment) -> "_Thread":
        for one in self._threads:
            if one[0] is moment:
                self._threads.remove(one)
                return one[1]
        self.runs += 1
        thread, stands = _Thread(*self._means), self.start
        for told in moment.way():
            reached = thread.tell(told, stands)
            stands = stands.next[told.mark]
            assert reached.at == stands.at, "the run does another thing, though it was told the same"
        return thread

    def _keep(self, moment: Moment, thread: "_Thread") -> None:
        if moment.is_over:
            thread.kill()
            return
        self._threads.append((moment, thread))
        if len(self._threads) > _MOST_THREADS:
            self._threads.popleft()[1].kill()

    def end(self) -> None:
        while self._threads:
            self._threads.pop()[1].kill()


class _Killed(BaseException):
    """The thread ends, without further effects."""


class _Thread:
    """The real code, in a thread that stands at a moment."""

    def __init__(self, name: str, run: Run, skew: float, stores: Sequence[str], page: int | None) -> None:
        self._moment = Moment("start")
        self._told: Told | None = None
        self._is_killed = False
        self._time = Time()
        self._clock = SteppedClock(self._time, skew, self._sleep)
        # Plain locks, handed over like a baton: much faster than semaphores.
        self._go, self._stands = threading.Lock(), threading.Lock()
        self._go.acquire()
        self._stands.acquire()
        adapter = _ToldAdapter(Remote(), lambda _: "ok", self._time)
        adapter.step = self.step
        tools = Tools(
            adapter=adapter, clock=self._clock, **{one: _ToldStore(one, self.step, page) for one in stores}
        )
        self._thread = threading.Thread(target=self._run, args=(run, tools), name=name, daemon=True)
        self._thread.start()

    def _run(self, run: Run, tools: Tools) -> None:
        try:
            self._wait()
            report = run(tools)
            self._moment = Moment("over", is_over=True, report=report)
        except _Killed:
            pass
        except BaseException as error:
            self._moment = Moment("over", is_over=True, error=error)
        self._stands.release()

    def step(self, at: str, call: Call) -> Any:
        """Stand still before a call, in the actor's thread; return what the world says of it."""
        told = self._stand(Moment(at, call))
        if told.error:
            # One and the same error may be told to many threads.
            raise told.error.with_traceback(None)
        return told.value

    def _sleep(self, seconds: float) -> None:
        self._stand(Moment("sleep", wakes_at=self._time.seconds + seconds))

    def _stand(self, moment: Moment) -> Told:
        if not self._is_killed:
            self._moment = moment
            self._stands.release()
        return self._wait()

    def _wait(self) -> Told:
        if not self._is_killed:
            self._go.acquire()
        if self._is_killed or self._told is None:
            raise _Killed
        return self._told

    def tell(self, told: Told, stands: Moment) -> Moment:
        """Let it go on, from where it stands to its next moment."""
        if told.leap:
            self._clock.skew += told.leap
            return Moment(stands.at, stands.call, stands.wakes_at)
        self._time.seconds = told.now
        self._told = told
        self._go.release()
        self._stands.acquire()
        return self._moment

    def kill(self) -> None:
        if self._thread.is_alive() and not self._moment.is_over:
            self._is_killed = True
            self._go.release()
        self._thread.join()


class _ToldStore(WrapperStore):
    """One actor's store: the world makes its calls, on the store that it has under this name."""

    def __init__(self, place: str, step: Callable[..., Any], page: int | None) -> None:
        super().__init__(TimedStore(Time()))
        self.place = place
        self.step = step
        self.page = page

    def _around(self, verb: str, key: str, call: Callable[[], Any]) -> Any:
        def made(place: Place, _outcome: str) -> Any:
            self.wrapped = place.stores[self.place]
            return call()

        return self.step(f"{verb} {key}", made)

    def _list(self, prefix: str, start_after: str | None) -> Iterator[ObjectInfo]:
        """Page by page, between which the others may write and delete."""
        while True:
            found = self._around("list", prefix, partial(self._page, prefix, start_after))
            yield from found
            if len(found) != self.page:
                return
            start_after = found[-1].key

    def _page(self, prefix: str, start_after: str | None) -> list[ObjectInfo]:
        return list(islice(self.wrapped.list(prefix, start_after=start_after), self.page))


class _ToldAdapter(SteppingAdapter):
    """One actor's adapter: the world makes its requests."""

    step: Callable[..., Any]

    def _request(self, kind: str, operation_id: str) -> Receipt:
        return self.step(
            f"send {operation_id}",
            lambda place, outcome: answered(place.remote, kind, operation_id, outcome, place.time.seconds),
        )

    def _search(self, operation_id: str) -> Receipt | None:
        return self.step(f"find {operation_id}", lambda place, _: place.remote.found(operation_id))
