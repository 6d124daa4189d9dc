"""Many new sessions out of a stream, each of them planned and carried out as by `write_back`."""

import functools
import hashlib
import sqlite3
import threading
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from pydantic import JsonValue

from writeahead.adapters.base import Adapter
from writeahead.adapters.limits import POLL
from writeahead.errors import InvalidInput
from writeahead.model import Operation, RunPolicy, RunReport, RunStatus
from writeahead.protocol.breaker import Breaker
from writeahead.protocol.context import HeldBack, require_means
from writeahead.protocol.dispatch import Bounds, Dispatch
from writeahead.protocol.messages import one_line
from writeahead.protocol.planning import keyed_operations, request_digest
from writeahead.protocol.progress import OnProgress
from writeahead.protocol.retry import Clock
from writeahead.protocol.runner import write_back
from writeahead.protocol.settling import Left, Settled, SweepResult, reported, went_wrong
from writeahead.protocol.stopping import LinkedStop
from writeahead.stores.base import ArtifactStore

__all__ = ["BatchItem", "BatchSource", "write_back_each"]


@dataclass(frozen=True)
class BatchItem:
    """One session of a batch, or what is there in its place.

    Attributes:
        line: Where it is in its source, from 1.
        session_id: See `write_back`, and so are the next three.
        operations: See there.
        identity: See there.
        namespace: See there.
        problem: Why it is no session, in one line without its content; None if it is one.
        repeats: The line that asked for the very same before it, if one did.
    """

    line: int
    session_id: str = ""
    operations: Sequence[Operation] = ()
    identity: JsonValue = None
    namespace: str = ""
    problem: str | None = None
    repeats: int | None = None


class BatchSource(Protocol):
    """Where the sessions of a batch come from. It may not have them all yet."""

    @property
    def is_live(self) -> bool:
        """Whether the next item can be long in coming."""

    def take(self) -> BatchItem | None:
        """Take the next item; None if there is none now."""

    def wait(self, seconds: float) -> bool:
        """Wait so long, at most, for the next item; return False at the end of all."""


def write_back_each(
    source: BatchSource,
    *,
    store: ArtifactStore,
    adapter: Adapter,
    policy: RunPolicy,
    bounds: Bounds,
    dry_run: bool = False,
    atomic: bool = False,
    stop: threading.Event | None = None,
    clock: Clock | None = None,
    on_progress: OnProgress | None = None,
    found: int = 0,
) -> Generator[SweepResult, None, bool]:
    """Plan and carry out each session of a source, as `write_back` does. Streams results.

    One bad session never stops the others. What is wrong with one, by itself or as its adapter has
    it, is in its result, which is ``refused``. So is a session whose id another one had before it,
    with other content. The same session twice is sent once. The first comes first, also where
    several are under way.

    While the remote is down, the rest is held back as in `writeahead.sweep`.

    Memory does not grow with the source: the ids are kept in a temporary file of SQLite's.

    Args:
        source: The sessions.
        store: As for `write_back`, and so are the others but two.
        adapter: See there.
        policy: See there.
        bounds: How many at once, in all, and for how long.
        dry_run: See `write_back`.
        atomic: See there. Each session is a transaction of its own.
        stop: See there.
        clock: See there.
        on_progress: See there. It is called in the threads of the runs, one call at a time.
        found: How many sessions the source has, if that is known; for the results.

    Returns:
        The results, as they come; as the value of the generator, whether each session had its turn.

    Raises:
        InvalidInput: Store or adapter can't be used; or the ids can't be kept any more.
    """
    require_means(store, adapter)
    clock = clock or Clock()
    stop = bounds.linked(stop, clock)
    run = functools.partial(
        write_back,
        store=store,
        adapter=adapter,
        policy=policy,
        dry_run=dry_run,
        atomic=atomic,
        stop=stop,
        clock=clock,
        on_progress=bounds.told(on_progress),
    )
    breaker = Breaker(clock, adapter)
    batch = _Batch(
        source,
        run,
        bounds,
        breaker=breaker,
        stop=stop,
        clock=clock,
        policy=policy,
        atomic=atomic,
        found=found,
    )
    return batch.results()


class _Run(Protocol):
    def __call__(
        self, operations: Sequence[Operation], *, session_id: str, identity: JsonValue, namespace: str
    ) -> RunReport: ...


class _Batch(Dispatch[BatchItem]):
    """One batch: what was read of its source, what is under way, and what was held back."""

    def __init__(
        self,
        source: BatchSource,
        run: _Run,
        bounds: Bounds,
        *,
        breaker: Breaker,
        stop: threading.Event | None,
        clock: Clock,
        policy: RunPolicy,
        atomic: bool,
        found: int,
    ) -> None:
        super().__init__(bounds, breaker, stop, clock)
        self._source, self._run, self._policy = source, run, policy
        self._atomic, self._found = atomic, found
        self._ids = _Ids()

    def results(self) -> Generator[SweepResult, None, bool]:
        """Work on all; return whether each session had its turn."""
        try:
            yield from self.work_off()
            return (yield from self._leftovers())
        finally:
            self.end()
            self._ids.close()

    def settle(self, item: BatchItem) -> Settled | None:
        verdict = _verdict(item)
        if verdict is not None:
            return Settled(verdict)
        try:
            report = self.breaker.tried(lambda: self._report(item), self.stop)
        except InvalidInput as error:
            return Settled(_refused(item, one_line(error)))
        except Exception as error:  # noqa: BLE001 - one bad session must not starve the others
            return went_wrong(item.session_id, error, self.clock, self._policy)
        if report is None:
            return Settled(SweepResult(item.session_id, left=Left.REMOTE_DOWN))
        return Settled(reported(report), attempted=_was_tried(report))

    def _report(self, item: BatchItem) -> RunReport:
        return self._run(
            item.operations,
            session_id=item.session_id,
            identity=item.identity,
            namespace=item.namespace,
        )

    def take(self) -> BatchItem | None:
        item = self._source.take()
        return item if item is None or item.problem else self._checked(item)

    def _checked(self, item: BatchItem) -> BatchItem:
        """Hold an item to those that were taken before it."""
        try:
            keyed = keyed_operations(item.session_id, item.operations, namespace=item.namespace)
            digest = request_digest(
                keyed, atomic=self._atomic, identity=item.identity, namespace=item.namespace
            )
        except InvalidInput as error:
            return replace(item, problem=one_line(error))
        earlier = self._ids.earlier(item, digest)
        if earlier is None:
            return item
        line, is_same = earlier
        if is_same:
            return replace(item, repeats=line)
        problem = (
            f"line {line} has session {item.session_id}, too, with other content: a session id names one unit"
            " of work, so give this one its own"
        )
        return replace(item, problem=problem)

    def put_back(self, item: BatchItem) -> None:
        self.held.append(item)

    def noted(self, item: BatchItem, settled: Settled) -> Iterator[SweepResult]:
        yield self._placed(item, settled.result)

    @property
    def has_more(self) -> bool:
        return self._source.wait(0)

    def wait(self) -> bool:
        if not self.held and not self.is_store_down and (not self.breaker.is_open or self.breaker.has_room):
            return self._source.wait(POLL)
        return super().wait()

    def _leftovers(self) -> Generator[SweepResult, None, bool]:
        """Say of each session that had no turn why; return whether there was none.

        After a stop, nothing more is said, and a source that can be long is not read to its end.
        """
        why = self.why_left()
        if why is None:
            return not self.held and not self._source.wait(POLL)
        is_through = True
        for item in self._rest():
            result = _verdict(item)
            if result is None:
                is_through = False
                result = SweepResult(item.session_id, left=why[0], not_before=why[1])
            yield self._placed(item, result)
        return is_through and not self._source.wait(0)

    def _rest(self) -> Iterator[BatchItem]:
        while self.held:
            yield self.held.popleft()
        stop = self.stop
        while not (stop.is_asked if isinstance(stop, LinkedStop) else self.is_over):
            item = self.take()
            if item is not None:
                yield item
            elif not self._source.wait(POLL) or (self._source.is_live and self.is_over):
                return

    def _placed(self, item: BatchItem, result: SweepResult) -> SweepResult:
        return replace(result, line=item.line, found=self._found)


def _verdict(item: BatchItem) -> SweepResult | None:
    """What there is to say of an item without running it; None if it is to be run."""
    if item.problem:
        return _refused(item, item.problem)
    if item.repeats:
        return SweepResult(item.session_id, note=f"the same session as line {item.repeats}")
    return None


def _refused(item: BatchItem, problem: str) -> SweepResult:
    return SweepResult(item.session_id, error=problem, refused=True)


def _was_tried(report: RunReport) -> bool:
    """Whether a run did more than look at a session that was there already."""
    is_new = report.status in (RunStatus.COMPLETED, RunStatus.PLANNED)
    met_something = report.cause is not None and not isinstance(report.cause, HeldBack)
    return is_new or bool(report.emitted) or met_something


class _Ids:
    """The ids of the sessions so far, with a digest of what each asked for.

    SQLite keeps what its cache has no room for in a file of its own, which has no name and goes
    with the process: https://www.sqlite.org/inmemorydb.html#temp_db.
    """

    def __init__(self) -> None:
        # A generator may be asked for its results by one thread after the other.
        self._db = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.execute("CREATE TABLE seen (id BLOB PRIMARY KEY, request BLOB, line INT) WITHOUT ROWID")

    def earlier(self, item: BatchItem, request: str) -> tuple[int, bool] | None:
        """Note an item; or tell which line had its id before it, and whether with the same request.

        Raises:
            InvalidInput: The temporary file can't be written.
        """
        key = hashlib.sha256(item.session_id.encode()).digest()[:16]
        digest = bytes.fromhex(request)[:16]
        try:
            added = self._db.execute("INSERT OR IGNORE INTO seen VALUES (?, ?, ?)", (key, digest, item.line))
            if added.rowcount:
                return None
            [(line, known)] = self._db.execute("SELECT line, request FROM seen WHERE id = ?", (key,))
        except sqlite3.Error as error:
            raise InvalidInput(
                f"the ids of the lines can't be kept in a temporary file: {error}: make room, or let TMPDIR"
                " name a folder that has some"
            ) from None
        return line, known == digest

    def close(self) -> None:
        """Remove them."""
        self._db.close()
