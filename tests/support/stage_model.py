"""An explicit-state model of operations that are under way at the same time, and of their journal.

One session: stages of operations, of which each is confirmed as a whole before the next begins. An
owner's operations take their steps in any order, its journal puts one entry at a time, and an entry
holds what was noted when it was begun. Owners die at any point, or are slow and taken over; an
operator decides about one operation after another. Late requests are in `protocol_model`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import count
from typing import NamedTuple

from tests.support.protocol_model import CREATE, LOOKUP, UNPROVABLE, Broken

Ids = frozenset[int]
NONE: Ids = frozenset()
# Of an operation: what it does next. ``noted``: it waits for the entry that announces it. ``half``:
# its announcement is taken back, and its receipt is not kept yet.
IDLE, NOTED, READY, SENT, HALF, REFUSED = "idle", "noted", "ready", "sent", "half", "refused"
UNDER_WAY = (NOTED, READY, SENT, HALF)


class StageBug(StrEnum):
    """A protocol that is wrong in one point."""

    PRESUMES_FIRST = "after a silent owner, only the first operation of a stage may have been sent"
    EARLIER_ENTRY = "an entry that was begun before an announcement was noted counts as its entry"
    LOST_RECEIPT = "what is noted while an entry is put counts as recorded by it"
    TWO_STEPS = "a receipt takes the place of an announcement in two steps, and an entry comes between"
    EARLY_STAGE = "a stage begins when the one before it has been sent, confirmed or not"
    SENDS_UNDECIDED = "what goes on with the others of a stage sends the undecided one, too"
    FORGETS_UNDECIDED = "a decision about one operation takes back the announcement of another"


class Kept(NamedTuple):
    """The newest journal entry, with all that it builds on."""

    kind: str = "held"  # held, ended, blocked, unblocked
    receipts: Ids = NONE
    announced: Ids = NONE
    suspect: Ids = NONE


class Put(NamedTuple):
    """An entry that was begun: what it holds, and what is under way to be sent after it."""

    kept: Kept
    of: Ids


class Owner(NamedTuple):
    """A run: what it knows, and where each of its operations is."""

    at: tuple[str, ...]
    receipts: Ids = NONE
    announced: Ids = NONE
    suspect: Ids = NONE
    recorded: Ids = NONE
    put: Put | None = None
    current: bool = True
    claims: bool = False


class State(NamedTuple):
    entry: Kept
    effects: tuple[int, ...]
    owners: tuple[Owner, ...]
    lease_over: bool = False
    final: bool = False


Step = tuple[str, State, Broken | None]


@dataclass(frozen=True)
class StageModel:
    """The protocol and its world.

    Attributes:
        stages: The replay classes of each stage's operations.
        owners: How many runs may be alive at once.
        bug: What is wrong with this protocol, if anything.
    """

    stages: tuple[tuple[str, ...], ...]
    owners: int = 2
    bug: StageBug | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(one for stage in self.stages for one in stage)

    def stage_of(self, receipts: Ids) -> list[int]:
        """The operations of the first stage that is not confirmed."""
        numbers = count()
        for stage in self.stages:
            ids = [next(numbers) for _ in stage]
            if not receipts.issuperset(ids):
                return ids
        return []

    def initial(self) -> State:
        idle = (IDLE,) * len(self.classes)
        return State(Kept(), (0,) * len(idle), (Owner(idle),))

    def broken(self, state: State) -> Iterator[Broken]:
        for replay, effects in zip(self.classes, state.effects, strict=True):
            if effects > 1:
                yield Broken.DOUBLED_LOOKUP if replay == LOOKUP else Broken.DOUBLED_UNPROVABLE
        if state.final and 0 in state.effects:
            yield Broken.FINAL_TOO_EARLY

    @staticmethod
    def settled(state: State) -> bool:
        return state.final or state.entry.kind == "blocked"

    # -- steps

    def steps(self, state: State) -> Iterator[Step]:
        for index, owner in enumerate(state.owners):
            yield "crash", self._moved(state, index, None), None
            yield from self._run(state, index, owner)
        if len(state.owners) < self.owners and not state.final:
            yield from self._resume(state)
            yield from self._unblock(state)
        # A request leaves soon after the look at the lease.
        sending = any(
            where in (READY, SENT) and replay == LOOKUP
            for owner in state.owners
            for where, replay in zip(owner.at, self.classes, strict=True)
        )
        if state.entry.kind == "held" and not state.lease_over and not sending:
            yield "the lease runs out", state._replace(lease_over=True), None

    def _resume(self, state: State) -> Iterator[Step]:
        entry = state.entry
        if entry.kind == "blocked" or (entry.kind == "held" and not state.lease_over):
            return
        open_ids = [n for n, one in enumerate(self.classes) if one == LOOKUP and n not in entry.receipts]
        suspect = entry.suspect
        if entry.kind == "held":
            first = self.stage_of(entry.receipts)[:1] if self.bug is StageBug.PRESUMES_FIRST else open_ids
            suspect |= frozenset(first).intersection(open_ids)
        undecided = entry.announced
        at = tuple(REFUSED if n in undecided else IDLE for n in range(len(self.classes)))
        if self.bug is StageBug.SENDS_UNDECIDED:
            at = (IDLE,) * len(at)
        owner = Owner(at, entry.receipts, entry.announced, suspect, entry.receipts, claims=True)
        # It reads; whoever appends first has the session.
        yield f"a resume reads: {entry.kind}", self._joined(state, owner), None

    def _unblock(self, state: State) -> Iterator[Step]:
        entry = state.entry
        on_its_way = any({READY, SENT} & {*owner.at} for owner in state.owners)
        if entry.kind != "blocked" or on_its_way:
            return
        for one in entry.announced or {None}:
            applied = {one} if one is not None and state.effects[one] else set()
            left = NONE if self.bug is StageBug.FORGETS_UNDECIDED else entry.announced - {one}
            decided = Kept("unblocked", entry.receipts | applied, left, entry.suspect)
            yield f"an operator decides about {one}", self._appended(state, None, decided), None

    def _run(self, state: State, index: int, owner: Owner) -> Iterator[Step]:
        if owner.claims:
            claimed = Kept("held", owner.receipts, owner.announced, owner.suspect)
            yield from self._lands(state, index, owner._replace(claims=False), claimed, what="claim")
            return
        stage = self.stage_of(owner.receipts)
        if not stage:
            yield "put the final", self._moved(state, index, None)._replace(final=True), None
            return
        for number in self._startable(owner, stage):
            yield from self._operation(state, index, owner, number)
        for number, where in enumerate(owner.at):
            if where in UNDER_WAY:
                yield from self._operation(state, index, owner, number)
        yield from self._journal(state, index, owner)
        if not owner.put and not {*UNDER_WAY} & {*owner.at}:
            left = [n for n in stage if n not in owner.receipts]
            kind = "blocked" if all(owner.at[n] == REFUSED for n in left) else "ended"
            kept = Kept(kind, owner.receipts, owner.announced, owner.suspect)
            yield from self._lands(state, index, None, kept, what=kind, by=owner)

    def _startable(self, owner: Owner, stage: list[int]) -> list[int]:
        if self.bug is StageBug.EARLY_STAGE and all(owner.at[n] != IDLE for n in stage):
            stage = list(range(len(owner.at)))
        return [n for n in stage if owner.at[n] == IDLE and n not in owner.receipts]

    def _operation(self, state: State, index: int, owner: Owner, number: int) -> Iterator[Step]:
        one = frozenset((number,))

        def at(place: str, **more: object) -> Owner:
            return owner._replace(at=(*owner.at[:number], place, *owner.at[number + 1 :]), **more)

        def step(after: Owner, **changes: object) -> State:
            return self._moved(state._replace(**changes), index, after)

        match owner.at[number]:
            case "idle":
                place = self._begun(state, owner, number)
                if place == NOTED:
                    yield f"note {number}", step(at(NOTED, announced=owner.announced | one)), None
                elif place:
                    found = owner.receipts | (one if place == IDLE else NONE)
                    yield f"look, then send {number}", step(at(place, receipts=found)), None
            case "ready":
                effects = self._effect(state, number)
                early = self._is_early(state, number)
                yield f"send {number}", step(at(SENT), effects=effects), early
                free = owner.announced - one
                yield f"send {number}: not applied", step(at(IDLE, announced=free)), None
                yield f"send {number}: refused", step(at(REFUSED, announced=free)), None
            case "sent":
                done, place = owner.receipts | one, IDLE
                if self.bug is StageBug.TWO_STEPS:
                    done, place = owner.receipts, HALF
                known = at(place, receipts=done, announced=owner.announced - one)
                yield f"receipt {number}", step(known), None
                unsure = at(self._after_no_reply(number), suspect=owner.suspect | one)
                yield f"reply {number} lost", step(unsure), None
            case "half":
                yield f"receipt {number}", step(at(IDLE, receipts=owner.receipts | one)), None

    def _begun(self, state: State, owner: Owner, number: int) -> str | None:
        """Where an operation is next that is not under way; idle where a search has found it."""
        replay, has_lease = self.classes[number], owner.current and not state.lease_over
        if replay == UNPROVABLE:
            return NOTED
        if has_lease and number in owner.suspect and state.effects[number]:
            return IDLE
        return READY if has_lease or replay == CREATE else None

    def _after_no_reply(self, number: int) -> str:
        return REFUSED if self.classes[number] == UNPROVABLE else IDLE

    def _is_early(self, state: State, number: int) -> Broken | None:
        stage = self.stage_of(frozenset(n for n, effects in enumerate(state.effects) if effects))
        return Broken.OUT_OF_ORDER if stage and number > max(stage) else None

    def _journal(self, state: State, index: int, owner: Owner) -> Iterator[Step]:
        if owner.put is not None:
            covered = owner.put.of
            if self.bug is StageBug.EARLIER_ENTRY:
                covered = frozenset(n for n, where in enumerate(owner.at) if where == NOTED)
            at = tuple(
                READY if n in covered and where == NOTED else where for n, where in enumerate(owner.at)
            )
            recorded = owner.put.kept.receipts
            if self.bug is StageBug.LOST_RECEIPT:
                recorded = owner.receipts
            after = owner._replace(at=at, put=None, recorded=recorded)
            yield from self._lands(state, index, after, owner.put.kept, what="put an entry", by=owner)
        elif NOTED in owner.at or owner.receipts != owner.recorded:
            # Only what is new since the entry before it is written.
            receipts = state.entry.receipts | (owner.receipts - owner.recorded)
            kept = Kept("held", receipts, owner.announced, owner.suspect)
            noted = frozenset(n for n, where in enumerate(owner.at) if where == NOTED)
            lost = None if receipts >= owner.receipts or not owner.current else Broken.NEEDLESS_QUESTION
            yield "begin an entry", self._moved(state, index, owner._replace(put=Put(kept, noted))), lost

    # -- what the steps are made of

    def _lands(
        self,
        state: State,
        index: int,
        after: Owner | None,
        kept: Kept,
        *,
        what: str,
        by: Owner | None = None,
    ) -> Iterator[Step]:
        """An entry is put: refused if another has appended since its owner read or wrote."""
        if not (by or after).current:
            yield f"{what}: fenced", self._moved(state, index, None), None
            return
        yield what, self._moved(self._appended(state, index, kept), index, after), None
        yield f"{what}, and don't know", self._moved(self._appended(state, index, kept), index, None), None

    @staticmethod
    def _appended(state: State, index: int | None, kept: Kept) -> State:
        owners = tuple(
            owner if position == index else owner._replace(current=False)
            for position, owner in enumerate(state.owners)
        )
        return state._replace(entry=kept, lease_over=False, owners=owners)

    def _effect(self, state: State, number: int) -> tuple[int, ...]:
        held = 1 if self.classes[number] == CREATE else min(2, state.effects[number] + 1)
        return (*state.effects[:number], held, *state.effects[number + 1 :])

    @staticmethod
    def _joined(state: State, owner: Owner) -> State:
        return state._replace(owners=(*state.owners, owner))

    @staticmethod
    def _moved(state: State, index: int, owner: Owner | None) -> State:
        others = [*state.owners]
        others[index : index + 1] = [] if owner is None else [owner]
        return state._replace(owners=tuple(others))
