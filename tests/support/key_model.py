"""An explicit-state model of a key that the remote forgets: one `create_with_key`, on a clock.

Time is counted in ticks. The remote remembers a key for ``VALID_FOR`` ticks from when it first saw
it, and then makes a second effect of the same request. A request leaves up to a tick after its
sender looked at the clock, and may land up to a tick later. Runs die at any point, or end; others
go on from the newest journal entry.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from tests.support.protocol_model import Broken

VALID_FOR, MARGIN, LIFETIME, END = 4, 1, 1, 9
NEVER = -1


class KeyBug(StrEnum):
    """Rules for expiring keys that are wrong in one point."""

    NO_EXPIRY = "a key is sent again, however old it is"
    AGE_FROM_NEWEST = "the age is counted from the newest attempt"
    AGE_FROM_TAKEOVER = "what a silent owner sent is as old as the takeover"
    SILENCE_IS_UNSENT = "what a silent owner may have sent has no age"
    NO_MARGIN = "a key is sent until the moment at which the remote forgets it"
    NO_LIFETIME = "the age leaves out how long a request may be on its way"
    HASTY_SEARCH = "a search does not wait until an earlier request can't land any more"


class Run(NamedTuple):
    """A run at one point of its code, and what it knows."""

    at: str  # ready, send, finish
    since: int = NEVER  # when the operation may have been sent at the earliest
    attempted: int = NEVER  # and at the latest
    looked_at: int = NEVER  # when it looked at the clock, before it sends


class Kept(NamedTuple):
    """The newest journal entry."""

    kind: str  # held, ended, blocked
    at: int = 0
    since: int = NEVER
    attempted: int = NEVER
    done: bool = False  # it holds the receipt


class KeyState(NamedTuple):
    now: int
    seen_at: int  # when the remote saw the key, if it remembers
    effects: int
    late: tuple[int, ...]  # requests on their way: until when they can land
    entry: Kept
    run: Run | None
    final: bool


KeyStep = tuple[str, KeyState, Broken | None]


@dataclass(frozen=True)
class KeyModel:
    """The rules, and a world in which time passes.

    Attributes:
        searches: The adapter can search for the operation; else an old one blocks.
        bug: What is wrong with these rules, if anything.
    """

    searches: bool
    bug: KeyBug | None = None

    def initial(self) -> KeyState:
        return KeyState(0, NEVER, 0, (), Kept("held"), Run("ready"), final=False)

    def broken(self, state: KeyState) -> Iterator[Broken]:
        if state.effects > 1:
            yield Broken.DOUBLED_KEYED
        if state.final and not state.effects:
            yield Broken.FINAL_TOO_EARLY

    @staticmethod
    def settled(state: KeyState) -> bool:
        return state.final or state.entry.kind == "blocked" or state.now == END

    def steps(self, state: KeyState) -> Iterator[KeyStep]:
        run = state.run
        if run is None:
            yield from self._others(state)
        else:
            yield from getattr(self, f"_{run.at}")(state, run)
            yield f"crash at {run.at}", state._replace(run=None), None
        for position, _ in enumerate(state.late):
            rest = (*state.late[:position], *state.late[position + 1 :])
            yield "a late request lands", self._applied(state._replace(late=rest)), None
        is_late = run is not None and run.at == "send" and state.now > run.looked_at
        if state.now < END and not is_late:
            yield "a tick", self._after_a_tick(state), None

    def _others(self, state: KeyState) -> Iterator[KeyStep]:
        """Another run claims the session; or an operator looks at the remote, and decides."""
        entry, now = state.entry, state.now
        if state.final:
            return
        if entry.done:
            yield "a resume finds the receipt", state._replace(run=Run("finish")), None
            return
        if entry.kind == "blocked":
            if not state.late:
                unblocked = Kept("ended", now, done=state.effects > 0)
                yield "an operator unblocks it", state._replace(entry=unblocked), None
            return
        run = Run("ready", entry.since, entry.attempted)
        if entry.kind == "held":
            since = now if self.bug is KeyBug.AGE_FROM_TAKEOVER else entry.at
            if self.bug is KeyBug.SILENCE_IS_UNSENT:
                since = NEVER
            run = Run("ready", entry.since if entry.since != NEVER else since, now)
        yield f"a resume finds it {entry.kind}", self._claimed(state, run), None

    @staticmethod
    def _claimed(state: KeyState, run: Run) -> KeyState:
        return state._replace(run=run, entry=Kept("held", state.now, run.since, run.attempted))

    def _ready(self, state: KeyState, run: Run) -> Iterator[KeyStep]:
        now = state.now
        yield "ended", self._left(state, Kept("ended", now, run.since, run.attempted)), None
        if not self._has_expired(now, run):
            since = run.since
            if since == NEVER or self.bug is KeyBug.AGE_FROM_NEWEST:
                since = now
            sending = run._replace(at="send", since=since, looked_at=now)
            yield "look at the clock", state._replace(run=sending), None
        elif not self.searches:
            yield "blocked", self._left(state, Kept("blocked", now, run.since, run.attempted)), None
        elif now > run.attempted + LIFETIME or self.bug is KeyBug.HASTY_SEARCH:
            found = Run("finish") if state.effects else Run("send", now, looked_at=now)
            yield "search", state._replace(run=found), None

    def _has_expired(self, now: int, run: Run) -> bool:
        if run.since == NEVER or self.bug is KeyBug.NO_EXPIRY:
            return False
        margin = 0 if self.bug is KeyBug.NO_MARGIN else MARGIN
        lifetime = 0 if self.bug in (KeyBug.NO_LIFETIME, KeyBug.NO_MARGIN) else LIFETIME
        return now + margin + lifetime >= run.since + VALID_FOR

    def _send(self, state: KeyState, run: Run) -> Iterator[KeyStep]:
        """One request: it takes effect, or surely does not, or no one knows."""
        applied, now = self._applied(state), state.now
        yield "send", applied._replace(run=Run("finish")), None
        since = run.since if run.attempted != NEVER else NEVER
        yield "send: not applied", state._replace(run=Run("ready", since, run.attempted)), None
        unsure = Run("ready", run.since, now)
        yield "send: no reply", state._replace(run=unsure), None
        yield "send: reply lost", applied._replace(run=unsure), None
        yield "crash, and it was applied", applied._replace(run=None), None
        if len(state.late) < 2:
            on_its_way = state._replace(late=tuple(sorted((*state.late, now + LIFETIME))))
            yield "send: delayed", on_its_way._replace(run=unsure), None
            yield "crash with a request on its way", on_its_way._replace(run=None), None

    def _finish(self, state: KeyState, run: Run) -> Iterator[KeyStep]:
        yield "put the final", state._replace(run=None, final=True), None

    @staticmethod
    def _left(state: KeyState, entry: Kept) -> KeyState:
        return state._replace(run=None, entry=entry)

    @staticmethod
    def _applied(state: KeyState) -> KeyState:
        if state.seen_at != NEVER:
            return state
        return state._replace(seen_at=state.now, effects=min(2, state.effects + 1))

    @staticmethod
    def _after_a_tick(state: KeyState) -> KeyState:
        now = state.now + 1
        forgets = state.seen_at != NEVER and now >= state.seen_at + VALID_FOR
        late = tuple(until for until in state.late if until >= now)
        return state._replace(now=now, late=late, seen_at=NEVER if forgets else state.seen_at)
