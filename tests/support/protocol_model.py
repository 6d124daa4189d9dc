"""An explicit-state model of the protocol in design section 4: every reachable state is looked at.

One session with one operation of each replay class, in any order. What is modelled: the original
run, any number of resumes (some of them alive at once), an operator who unblocks, the store with
its write-once keys and its two markers, the remote per replay class, any number of crashes and of
lost or delayed requests and replies, leases that run out, and zombies: an owner may be slow at any
point and carry on after it was taken over.

What keeps it small, and is exact:

- an entry's number is not kept. An owner is *current* while no other has appended since it read or
  wrote; an append by an owner that is not current is refused;
- receipts are a count, since operations are emitted in order;
- owners are interchangeable, so they are kept sorted;
- `merged`: an owner that can do nothing visible any more (its next step is an append that will be
  refused, or a lease check that will fail and lead to one) is taken out at once. A test holds this
  against a run without it.

Two limits of any such protocol are part of the default world, and can be lifted to see what they
are worth: a request leaves the machine within the lease's margin after the lease check
(`unbounded_pause` lifts it), and an operator who decides an unknown outcome does so when no request
can still land (`hasty_person`).
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

CREATE, UPSERT, CONDITIONAL, LOOKUP, UNPROVABLE = ALL_CLASSES = (
    "create_with_key",
    "upsert",
    "conditional_update",
    "lookup",
    "unprovable",
)
# Two upserts of one row, whose adapter declares `settles_after`: each leaves a value of its own.
FIRST_ROW, NEXT_ROW = ROWS = ("upsert_of_a_row", "next_upsert_of_the_row")
KEYED = frozenset((CREATE, UPSERT, CONDITIONAL, *ROWS))
# What may write a row that an earlier operation has written.
OVERWRITING = frozenset((UPSERT, CONDITIONAL, *ROWS))
# What leans on time: a request that lands late does harm, be it a second effect or an older value.
TIMED = frozenset((LOOKUP, FIRST_ROW))


class Bug(StrEnum):
    """A protocol that is wrong in one point."""

    NO_FENCING = "an append overwrites what is at its number"
    PLAN_AFTER_FIRST_EMIT = "the plan is written after the first request"
    FINAL_BEFORE_LAST_RECEIPT = "the final artifact is written before the last operation is sent"
    MARKER_BEFORE_FINAL = "the .open/ marker goes before the final artifact is there"
    NO_READ_BACK = "a 412 on our own create, whose reply was lost, is taken for another owner's"
    ANY_412_IS_OURS = "a 412 is taken for our own create, without comparing"
    NO_LEASE = "a session may be taken over at any time, and an owner does not look at its lease"
    NO_OWN_CHECK = "a takeover waits for the lease, but its owner does not look at it before it sends"
    NO_ANNOUNCEMENT = "no `sending` entry before an unprovable operation"
    ANNOUNCES_ONCE = "only the first of several attempts at an unprovable operation is announced"
    HASTY_SEARCH = "a lookup searches at once, while an earlier request can still land"
    NO_SUSPICION = "after a silent owner, a lookup is sent without a search"
    OPEN_GOES_FIRST = "on blocking, .open/ is deleted before .blocked/ is put"
    UNBLOCK_DELETES = "on unblocking, .blocked/ is deleted after .open/ was put"
    BLOCKS_WITHOUT_REASON = "a refused operation blocks the session without a reason"
    NO_TAKEOVER = "a silent owner's session is never taken over"
    NO_KEY = "requests carry no key, version or content that the remote could know them by"
    OPEN_MARKS_AGAIN = "the marker of a run in a tombstone's place is .open/, which a sweep may delete"
    SWEEP_TAKES_BLOCKED = "a sweep that finds a tombstone deletes .blocked/ as well"
    ABANDON_WITHOUT_FENCE = "abandoning a session leaves its owner's number free"
    ABANDON_FORGETS = "an abandoned session does not keep that an operation may have been sent"
    ABANDONED_IS_RESUMED = "a resume takes an abandoned session for one that was ended"
    TAKEOVER_FORGETS = "an early takeover takes what its owner may have sent for unsent"
    TAKEOVER_IS_SILENT = "an early takeover waits for the request lifetime, but not for the lease"
    NEWEST_LEASE_ONLY = "a takeover waits for the newest owner's lease, and for no longer one before it"
    NO_WAITING_ENTRY = "a long wait after a sure failure is not journaled"
    WAITS_AFTER_UNKNOWN = "a long wait after an unknown outcome is journaled as one after a sure failure"
    NO_SETTLING = "the next upsert of a row does not wait for a late one (no `settles_after`)"
    RECEIPT_SETTLES = "a confirmed upsert is taken for settled, though its first request may land late"
    OVERWRITES_UNRECORDED = "what may write a row of an earlier operation is sent while its receipt waits"
    ONCE_RECEIPT_WAITS = "the receipt of what can't simply be sent again waits for a later entry"
    SILENCE_SETTLES = "what a silent owner sent is taken for settled"


class Broken(StrEnum):
    """An invariant, named by what a violation of it is."""

    DOUBLED_KEYED = "a create_with_key, upsert or conditional_update took effect twice"
    DOUBLED_LOOKUP = "a lookup operation took effect twice"
    DOUBLED_UNPROVABLE = "an unprovable operation took effect twice"
    FINAL_TOO_EARLY = "the final artifact is there, and not everything is applied"
    UNPLANNED_EFFECT = "something took effect, and there is no plan"
    HIDDEN = "a planned session is not final, and has no marker"
    REWRITTEN = "something that was written has changed"
    SILENT_BLOCK = "a blocked session does not say why"
    FALSE_FENCE = "an owner was told that another has taken over, and there is no other"
    PLAN_LOST = "a plan was deleted"
    RESURRECTED = "a session went on after it was abandoned"
    SENT_AFTER_END = "an unprovable operation was sent after the session was abandoned as unsent"
    NEEDLESS_QUESTION = "a kill leaves an unknown outcome behind, though the run knew the outcome"
    STALE_ROW = "the session is completed, and the row holds an earlier value"
    OUT_OF_ORDER = "a run sends an operation again after a later one that may have written its row"
    DEAD_END = "no continuation completes or blocks the session"


class Entry(NamedTuple):
    """The newest journal entry; the plan itself counts as the entry before the first."""

    kind: str  # held, ended, blocked, unblocked, abandoned
    done: int = 0
    suspect: bool = False  # the lookup operation may have been sent; the row's first upsert may be late
    announced: bool = False  # the unprovable operation may have been sent
    reason: str = ""


class Owner(NamedTuple):
    """A run at one point of its code; ``at`` names the visible step that it takes next."""

    at: str
    done: int = 0
    current: bool = False
    suspect: bool = False
    announced: bool = False
    was_blocked: bool = False
    reason: str = ""
    # Fenced before its lease is over: it goes on until its next entry. 2: others have forgotten it.
    leased: int = 0


class State(NamedTuple):
    plan: str  # absent, present, abandoned
    entry: Entry
    lease_over: bool
    final: bool
    open: bool
    blocked: bool
    effects: tuple[int, ...]  # how often each operation took effect
    late_lookup: bool  # a request is on its way, and its sender does not know
    late_unprovable: bool
    quiet: bool  # no lookup request that was sent so far can still land
    owners: tuple[Owner, ...]
    row: int = 0  # which upsert's value the row holds


Step = tuple[str, State, Broken | None]


@dataclass(frozen=True)
class Model:
    """The protocol and its world.

    Attributes:
        operations: Replay classes, each at most once, in the order of emission.
        resumers: How many runs other than the first may be alive at once; any number may follow
            each other.
        bug: What is wrong with this protocol, if anything.
        interval: A receipt may wait for a later entry, as long as the newest one is young enough.
            Otherwise each gets an entry at once.
        clock_jumps: Others may take a lease for over while its owner, on its monotonic clock, does
            not.
        unbounded_pause: An owner may sleep forever between its lease check and its request.
        hasty_person: A person may say "not applied" while a request can still land.
        merged: Take out at once who can do nothing visible any more.
        newcomers: How many new runs may try at once to begin in a tombstone's place.
        write_once: A new plan gets a key of its own beside the tombstone, instead of
            its place.
        abandons: An operator may abandon the session at any time.
        takes_over: An operator may take the session over before its owner's lease is over.
        undeletes: Only puts are durable: what was deleted may come back, as after a power cut.
        waits: A long wait after a sure failure may come before the next attempt.
    """

    operations: tuple[str, ...] = ALL_CLASSES
    resumers: int = 3
    bug: Bug | None = None
    interval: bool = False
    clock_jumps: bool = False
    unbounded_pause: bool = False
    hasty_person: bool = False
    merged: bool = True
    newcomers: int = 0
    write_once: bool = False
    abandons: bool = False
    takes_over: bool = False
    undeletes: bool = False
    waits: bool = False

    def initial(self) -> State:
        nothing = (0,) * len(self.operations)
        return State(
            plan="absent",
            entry=Entry("held"),
            lease_over=False,
            final=False,
            open=False,
            blocked=False,
            effects=nothing,
            late_lookup=False,
            late_unprovable=False,
            quiet=False,
            owners=(Owner("mark"),),
        )

    # -- what is true of a state
    # ------------------------------------------------------------------------

    def broken(self, state: State) -> Iterator[Broken]:
        """Yield the invariants that a state breaks."""
        for replay, count in zip(self.operations, state.effects, strict=True):
            if count > 1:
                yield _DOUBLED[replay]
        if state.final and 0 in state.effects:
            yield Broken.FINAL_TOO_EARLY
        if state.plan != "present" and any(state.effects):
            yield Broken.UNPLANNED_EFFECT
        marked = state.open or state.blocked or state.entry.kind == "abandoned"
        if state.plan == "present" and not (state.final or marked):
            yield Broken.HIDDEN
        if state.final and state.row == 1 and NEXT_ROW in self.operations:
            yield Broken.STALE_ROW
        if state.entry.kind == "blocked" and not state.entry.reason:
            yield Broken.SILENT_BLOCK

    @staticmethod
    def settled(state: State) -> bool:
        """Tell whether a session has an acceptable end, or nothing was ever promised."""
        return state.final or state.entry.kind in ("blocked", "abandoned") or state.plan != "present"

    # -- steps
    # --------------------------------------------------------------------------------------------

    def steps(self, state: State) -> Iterator[Step]:
        """Yield each step that an actor, or the world, can take next."""
        for index, owner in enumerate(state.owners):
            if index and owner == state.owners[index - 1]:
                continue
            yield from getattr(self, f"_{owner.at}")(state, index, owner)
            yield (
                f"crash at {owner.at}",
                self._moved(state, index, None),
                self._asked_for_nothing(state, owner),
            )
        if len(state.owners) <= self.resumers:
            yield from self._start(state)
            yield from self._unblock(state)
            yield from self._join(state)
        yield from self._time(state)
        if self.undeletes:
            yield from self._undelete(state)

    def _start(self, state: State) -> Iterator[Step]:
        """A resume, or a sweep, reads the session: one listing, so one moment."""
        entry = state.entry
        told, found = self._to_tidy(state)
        if found:
            yield told, self._joined(state, found), None
        if told or state.plan != "present":
            return
        if entry.kind == "held":
            may_take = state.lease_over or self.clock_jumps or self.bug is Bug.NO_LEASE
            if (may_take or self.takes_over) and self.bug is not Bug.NO_TAKEOVER:
                suspect = entry.suspect or self._suspects_silence(entry)
                announced = entry.announced
                if self.bug is Bug.TAKEOVER_FORGETS and not state.lease_over:
                    suspect = announced = False
                claimant = Owner("claim", entry.done, True, suspect, announced)
                yield "resume finds a silent owner", self._joined(state, claimant), None
        elif entry.kind != "blocked":
            claimant = Owner(
                "claim",
                entry.done,
                True,
                entry.suspect,
                entry.announced,
                was_blocked=entry.kind == "unblocked",
            )
            yield f"resume finds it {entry.kind}", self._joined(state, claimant), None

    def _to_tidy(self, state: State) -> tuple[str, Owner | None]:
        """What a sweep finds of a session that is not resumed, and who tidies up, if at all."""
        told, owner, marked = "", None, state.open or state.blocked
        if state.final:
            told, owner = "sweep finds it finished", Owner("unmark", was_blocked=True)
        elif state.plan == "abandoned":
            told, owner = "sweep finds a tombstone", Owner("tidy_tombstone")
            marked = state.open or (state.blocked and self.bug is Bug.SWEEP_TAKES_BLOCKED)
        elif state.entry.kind == "abandoned" and self.bug is not Bug.ABANDONED_IS_RESUMED:
            told, owner = "sweep finds it abandoned", Owner("unmark_all")
        elif state.plan == "absent":
            told, owner, marked = "sweep finds no plan", Owner("abandon"), state.open
        return told, owner if marked else None

    def _unblock(self, state: State) -> Iterator[Step]:
        """A person looks at the remote, decides, and appends."""
        entry = state.entry
        if entry.kind != "blocked" or state.final:
            return
        done = entry.done
        if entry.announced:
            unsettled = state.late_unprovable or self._somebody_is_sending(state, UNPROVABLE)
            if unsettled and not self.hasty_person:
                return
            done += state.effects[self.operations.index(UNPROVABLE)] > 0
        new = entry._replace(kind="unblocked", done=done, announced=False, reason="")
        after = self._appended(state, None, new)
        yield "a person unblocks", self._joined(after, Owner("mark_unblocked")), None

    def _join(self, state: State) -> Iterator[Step]:
        """A new run finds no plan; or an operator reads the session, to abandon it."""
        entry = state.entry
        waiting = sum(owner.at.startswith("again") for owner in state.owners)
        if state.plan != "present" and waiting < self.newcomers:
            yield "a new run begins", self._joined(state, Owner("again_open")), None
        if self.abandons and state.plan == "present" and not state.final and entry.kind != "abandoned":
            if any(owner.at == "give_up" for owner in state.owners):
                return
            suspect, announced = entry.suspect, entry.announced
            if self.bug is Bug.ABANDON_FORGETS:
                suspect = announced = False
            operator = Owner("give_up", entry.done, True, suspect, announced)
            yield "an operator reads it, to abandon it", self._joined(state, operator), None

    def _undelete(self, state: State) -> Iterator[Step]:
        """A deleted key comes back. That of a marker which was never put is looked at as well."""
        if not state.open:
            yield ".open/ comes back", state._replace(open=True), None
        if not state.blocked:
            yield ".blocked/ comes back", state._replace(blocked=True), None
        if state.plan == "absent" and self.newcomers:
            yield "the tombstone comes back", self._tidy(state._replace(plan="abandoned")), None

    def _time(self, state: State) -> Iterator[Step]:
        held = state.plan == "present" and state.entry.kind == "held" and not state.final
        if held and not state.lease_over:
            yield "the lease runs out", self._tidy(state._replace(lease_over=True)), None
        if any(owner.leased for owner in state.owners):
            owners = [owner._replace(leased=0) for owner in state.owners]
            yield "a fenced owner's lease runs out", self._tidy(state._replace(owners=owners)), None
        if state.late_lookup:
            timed = next(replay for replay in self.operations if replay in TIMED)
            landed = self._applied(state, timed)._replace(late_lookup=False)
            yield f"a late {timed} request lands", landed, None
        if state.late_unprovable:
            landed = state._replace(late_unprovable=False, effects=self._effect(state, UNPROVABLE))
            yield "a late unprovable request lands", landed, None
            yield "a late unprovable request is lost", state._replace(late_unprovable=False), None
        searching = any(
            owner.at == "ready" and owner.suspect and self.operations[owner.done] in (LOOKUP, NEXT_ROW)
            for owner in state.owners
        )
        on_its_way = not self.unbounded_pause and any(self._somebody_is_sending(state, one) for one in TIMED)
        leased = self.bug is not Bug.TAKEOVER_IS_SILENT and any(owner.leased == 1 for owner in state.owners)
        if searching and not state.quiet and not on_its_way and not leased:
            yield "the request lifetime passes", state._replace(quiet=True, late_lookup=False), None

    # Each of these is one visible step of an owner.

    def _mark(self, state: State, index: int, owner: Owner) -> Iterator[Step]:
        early = self.bug is Bug.PLAN_AFTER_FIRST_EMIT
        after = self._moved(state, index, owner._replace(at="emit_early" if early else "plan"), open=True)
        yield "put .open/", after, None

    def _emit_early(self, state: State, index: int, owner: Owner) -> Iterator[Step]:
        effects = self._effect(state, self.operations[0])
        yield "send 0", self._moved(state, index, owner._replace(at="plan", done=1), effects=effects), None

    def _plan(self, state: State, index: int, owner: Owner) -> Iterator[Step]:
        if state.plan != "absent":
            yield "the plan is refused", self._moved(state, index, None), None
            return
        planned = state._replace(plan="present")
        ready = self._go_on(owner._replace(current=True))
        yield "put the plan", self._moved(planned, index, ready), None
        yield "put the plan, and don't know", self._moved(planned, index, None), None
        if self.bug is Bug.NO_READ_BACK:
            yield self._fenced(planned, index, "put the plan again", is_current=True)

    def _abandon(self, state: State, index: int, owner: Owner) -> Iterator[Step]:
        if state.plan != "absent":
            yield "the tombstone is refused", self._moved(state, index, None), None
        else:
            after = self._moved(state, index, owner._replace(at="tidy_tombstone"), plan="abandoned")
            yield "put a tombstone", after, None

    def _tidy_tombstone(self, state: State, index: int, owner: Owner) -> Iterator[Step]:
        after = Owner("unmark_more") if self.bug is Bug.SWEEP_TAKES_BLOCKED else None
        yield "a sweep deletes .open/", self._moved(state, index, after, open=False), None

    def _again_open(self, state: State, index: int, owner: Owner) -> Iterator[Step]:
        yield "put .open/", self._moved(state, index, owner._replace(at="again_plan"), open=True), None

    def _again_plan(self, state: State, index: int, owner: Owner) -> Iterator[Step]:
        if state.plan == "abandoned":
            yield "read the tombstone", self._moved(state, index, owner._replace(at="again_mark")), None
        else:
            yield from self._plan(state, index, owner)

    def _again_mark(self, state: State, index: int, owner: Owner) -> Iterator[Step]:
        after = owner._replace(at="again_create" if self.write_once else "again_replace", was_blocked=True)
        if self.bug is Bug.OPEN_MARKS_AGAIN:
            yield "put .open/ again", self._moved(state, index, after, open=True), None
        else:
            yield "put .blocked/", self._moved(state, index, after, blocked=True), None

    def _again_replace(self, state: State, index: int, owner: Owner) -> Iterator[Step]:
        """Delete what is at the plan's key: a store can't be asked to delete a tombstone only."""
        lost = Broken.PLAN_LOST if state.plan == "present" else None
        after = owner._replace(at="again_create")
        yield "delete the tombstone", self._moved(state, index, after, plan="absent"), lost

    def _again_create(self, state: State, index: int, owner: Owner) -> Iterator[Step]:
        is_free = state.plan == "abandoned" if self.write_once else state.plan == "absent"
        if is_free:
            yield from self._plan(state._replace(plan="absent"), index, owner)
        else:
            yield "the plan is refused", self._moved(state, index, None), None

    def _give_up(self, state: State, index: int, owner: Owner) -> Iterator[Step]:
        if self.bug is Bug.ABANDON_WITHOUT_FENCE:
            entry = Entry("abandoned", owner.done, owner.suspect, owner.announced)
            after = self._moved(state._replace(entry=entry), index, Owner("unmark_all"))
            yield "abandoned, beside the journal", after, None
            return
        yield from self._append(state, index, "abandoned", Owner("unmark_all"), kind="abandoned", by=owner)

    def _unmark_all(self, state: State, index: int, owner: Owner) -> Iterator[Step]:
        yield "delete .open/", self._moved(state, index, Owner("unmark_more"), open=False), None

    def _claim(self, state: State, index: int, owner: Owner) -> Iterator[Step]:
        if owner.announced:
            steps = self._block(state, index, owner._replace(reason="outcome_unknown"))
        else:
            steps = self._append(state, index, "claimed", self._go_on(owner), kind="held", by=owner)
        # What a silent owner sent may have left at its lease's last moment: the wait begins there.
        was_silent = state.entry.kind == "held"
        forgotten = [other for other in state.owners if other.leased == 1]
        for label, after, told in steps:
            if self.bug is Bug.NEWEST_LEASE_ONLY and forgotten:
                owners = [one._replace(leased=2) if one in forgotten else one for one in after.owners]
                after = after._replace(owners=tuple(sorted(owners)))  # noqa: PLW2901
            yield label, after._replace(quiet=after.quiet and not was_silent), told

    def _ready(self, state: State, index: int, owner: Owner) -> Iterator[Step]:
        """Check the lease, right before the send; or stop: signal, budget, lease."""
        replay = self.operations[owner.done]
        yield from self._append(state, index, "ended", None, kind="ended", by=owner._replace(announced=False))
        if self.interval and owner.done > state.entry.done:
            # Before a longer wait.
            yield from self._append(state, index, "confirmed", owner, kind="held", by=owner)
        if not self._has_lease(state, owner):
            return
        if replay == UNPROVABLE and self._must_announce(owner):
            sending = owner._replace(at="send", announced=True)
            yield from self._append(state, index, "sending", sending, kind="held", by=sending)
        elif replay == LOOKUP and owner.suspect:
            yield from self._search(state, index, owner)
        elif replay == NEXT_ROW and owner.suspect and not state.quiet and self.bug is not Bug.NO_SETTLING:
            return
        else:
            yield "check the lease", self._moved(state, index, owner._replace(at="send")), None

    def _search(self, state: State, index: int, owner: Owner) -> Iterator[Step]:
        if not state.quiet and self.bug is not Bug.HASTY_SEARCH:
            return
        if self._effects_of(state, LOOKUP):
            for after in self._confirmed(owner):
                yield "search: found", self._moved(state, index, after), None
        else:
            yield "search: not there", self._moved(state, index, owner._replace(at="send")), None

    def _send(self, state: State, index: int, owner: Owner) -> Iterator[Step]:
        """One request. Its sender gets a receipt, a refusal, a "not applied", or nothing."""
        replay = self.operations[owner.done]
        if replay in TIMED:
            state = state._replace(quiet=False)
        applied = self._applied(state, replay)
        retry = owner._replace(at="ready")
        later = zip(self.operations[owner.done + 1 :], state.effects[owner.done + 1 :], strict=True)
        out_of_order = owner.current and any(one in OVERWRITING and count for one, count in later)
        unasked = replay == UNPROVABLE and state.entry.kind == "abandoned" and not state.entry.announced
        told = Broken.SENT_AFTER_END if unasked else Broken.OUT_OF_ORDER if out_of_order else None
        for after in self._confirmed(owner):
            yield f"send {replay}", self._moved(applied, index, after), told
        if replay == UNPROVABLE and self.waits:
            wait = owner._replace(at="wait", announced=False)
            if self.bug is Bug.NO_WAITING_ENTRY:
                wait = owner._replace(at="waiting")
            yield f"send {replay}: not applied, wait", self._moved(state, index, wait), None
        yield f"send {replay}: not applied", self._moved(state, index, retry), None
        refused = owner._replace(announced=False, reason=self._refusal(replay))
        yield from self._block(state, index, refused)
        unsure = {
            LOOKUP: owner._replace(at="ready", suspect=True),
            FIRST_ROW: owner._replace(at="ready", suspect=True),
            UNPROVABLE: owner._replace(at="end", reason="outcome_unknown"),
        }.get(replay, retry)
        if replay == UNPROVABLE and self.bug is Bug.WAITS_AFTER_UNKNOWN:
            unsure = owner._replace(at="wait", announced=False)
        yield f"send {replay}: no reply", self._moved(state, index, unsure), None
        yield f"send {replay}: reply lost", self._moved(applied, index, unsure), None
        if replay in TIMED or replay == UNPROVABLE:
            # The remote knows what to do with any other request, however late it comes.
            state = state._replace(**{"late_lookup" if replay in TIMED else "late_unprovable": True})
            yield f"send {replay}: delayed", self._moved(state, index, unsure), None
            yield f"crash with {replay} on its way", self._moved(state, index, None), None

    def _wait(self, state: State, index: int, owner: Owner) -> Iterator[Step]:
        yield from self._append(state, index, "waiting", owner._replace(at="waiting"), kind="held", by=owner)

    def _waiting(self, state: State, index: int, owner: Owner) -> Iterator[Step]:
        yield "the wait is over", self._moved(state, index, owner._replace(at="ready")), None

    def _record(self, state: State, index: int, owner: Owner) -> Iterator[Step]:
        yield from self._append(state, index, "confirmed", owner._replace(at="ready"), kind="held", by=owner)

    def _end(self, state: State, index: int, owner: Owner) -> Iterator[Step]:
        yield from self._block(state, index, owner)

    def _block(self, state: State, index: int, owner: Owner) -> Iterator[Step]:
        after = Owner("unmark_blocking" if self.bug is Bug.OPEN_GOES_FIRST else "mark_blocked")
        if self.bug is Bug.BLOCKS_WITHOUT_REASON:
            owner = owner._replace(reason="")
        yield from self._append(state, index, f"blocked: {owner.reason}", after, kind="blocked", by=owner)

    def _mark_blocked(self, state: State, index: int, owner: Owner) -> Iterator[Step]:
        last = self.bug is Bug.OPEN_GOES_FIRST
        after = None if last else Owner("unmark_blocking")
        yield "put .blocked/", self._moved(state, index, after, blocked=True), None

    def _unmark_blocking(self, state: State, index: int, owner: Owner) -> Iterator[Step]:
        after = Owner("mark_blocked") if self.bug is Bug.OPEN_GOES_FIRST else None
        yield "delete .open/", self._moved(state, index, after, open=False), None

    def _mark_unblocked(self, state: State, index: int, owner: Owner) -> Iterator[Step]:
        after = Owner("unmark_unblocked") if self.bug is Bug.UNBLOCK_DELETES else None
        yield "put .open/", self._moved(state, index, after, open=True), None

    def _unmark_unblocked(self, state: State, index: int, owner: Owner) -> Iterator[Step]:
        yield "delete .blocked/", self._moved(state, index, None, blocked=False), None

    def _finish(self, state: State, index: int, owner: Owner) -> Iterator[Step]:
        # There already, by another owner with the same plan or by our own lost reply: success as
        # well.
        after = None if self.bug is Bug.MARKER_BEFORE_FINAL else self._at_the_end(owner)
        yield "put the final", self._moved(state, index, after, final=True), None

    def _unmark(self, state: State, index: int, owner: Owner) -> Iterator[Step]:
        finished = state.final or state.plan == "abandoned"
        after = Owner("unmark_more") if owner.was_blocked else None
        if not finished:
            after = owner._replace(at="finish")
        yield "delete .open/", self._moved(state, index, after, open=False), None

    def _unmark_more(self, state: State, index: int, owner: Owner) -> Iterator[Step]:
        yield "delete .blocked/", self._moved(state, index, None, blocked=False), None

    # -- what the steps are made of
    # -----------------------------------------------------------------------

    def _append(
        self, state: State, index: int, what: str, after: Owner | None, *, kind: str, by: Owner
    ) -> Iterator[Step]:
        """Create the next journal entry, with what ``by`` knows; refused if the number is taken."""
        is_current = by.current
        if not is_current and self.bug is Bug.ANY_412_IS_OURS:
            yield f"{what}: refused, unnoticed", self._moved(state, index, self._now_current(after)), None
            return
        if not is_current and self.bug is not Bug.NO_FENCING:
            yield self._fenced(state, index, what, is_current=is_current)
            return
        entry = Entry(kind, by.done, by.suspect, by.announced, by.reason)
        written = self._appended(state, index, entry)
        told = None if is_current else Broken.REWRITTEN
        if state.entry.kind == "abandoned":
            told = Broken.RESURRECTED
        yield what, self._moved(written, index, self._now_current(after)), told
        # The reply is lost. With a read-back that finds our own bytes, it is as if it had come.
        # Here the read-back fails as well, and the owner stops: it can't know.
        yield f"{what}, and don't know", self._moved(written, index, None), told
        if self.bug is Bug.NO_READ_BACK:
            # It tries again, and finds its number taken, by itself.
            yield self._fenced(written, index, f"{what}, again", is_current=True)

    def _fenced(self, state: State, index: int, what: str, *, is_current: bool) -> Step:
        """An owner finds another one's entry at its number, and stops."""
        told = Broken.FALSE_FENCE if is_current else None
        return f"{what}: fenced", self._moved(state, index, None), told

    def _appended(self, state: State, index: int | None, entry: Entry) -> State:
        early = (self.takes_over or self.abandons) and state.entry.kind == "held" and not state.lease_over
        owners = tuple(
            owner
            if position == index
            else owner._replace(current=False, leased=1 if early and owner.current else owner.leased)
            for position, owner in enumerate(state.owners)
        )
        return state._replace(entry=entry, lease_over=False, owners=owners)

    def _asked_for_nothing(self, state: State, owner: Owner) -> Broken | None:
        """What a crash here would ask an operator, though the request surely had no effect."""
        if not owner.current or state.final:
            return None
        needless = owner.at == "waiting" and state.entry.announced
        # Between the reply and the entry, or the final, a question can't be helped.
        if owner.at in ("ready", "send", "waiting", "wait") and not self._journals_next(owner):
            unknown = self.operations[state.entry.done : owner.done]
            needless = needless or LOOKUP in unknown or UNPROVABLE in unknown
        return Broken.NEEDLESS_QUESTION if needless else None

    def _journals_next(self, owner: Owner) -> bool:
        """Whether an entry comes before the next request in any case."""
        return owner.at == "ready" and self.operations[owner.done] == UNPROVABLE

    def _suspects_silence(self, entry: Entry) -> bool:
        """Whether a silent owner may have sent what leans on time."""
        if self.bug is Bug.NO_SUSPICION:
            return False
        if FIRST_ROW in self.operations:
            return self.bug is not Bug.SILENCE_SETTLES and entry.done <= self.operations.index(FIRST_ROW)
        return True

    @staticmethod
    def _now_current(owner: Owner | None) -> Owner | None:
        return owner and owner._replace(current=True)

    def _go_on(self, owner: Owner) -> Owner:
        """Where an owner is that has nothing to record: before the next operation, or the end."""
        last = len(self.operations) - (self.bug is Bug.FINAL_BEFORE_LAST_RECEIPT)
        if owner.done < last:
            return owner._replace(at="ready")
        return owner._replace(at="unmark" if self.bug is Bug.MARKER_BEFORE_FINAL else "finish")

    def _confirmed(self, owner: Owner) -> Iterator[Owner]:
        """A receipt more: record it, unless the final artifact or a later entry will carry it."""
        passed = self.operations[owner.done]
        after = owner._replace(
            done=owner.done + 1,
            suspect=owner.suspect
            and passed != LOOKUP
            and not (passed == FIRST_ROW and self.bug is Bug.RECEIPT_SETTLES),
            announced=owner.announced and passed != UNPROVABLE,
        )
        after = self._go_on(after)
        if after.at != "ready":
            yield after
            return
        once = passed in (LOOKUP, UNPROVABLE) and self.bug is not Bug.ONCE_RECEIPT_WAITS
        following = self.operations[after.done]
        carried = following == UNPROVABLE
        order = following in OVERWRITING and self.bug is not Bug.OVERWRITES_UNRECORDED
        if carried or (self.interval and not (once or order)):
            yield after
        if not carried:
            yield after._replace(at="record")

    @staticmethod
    def _at_the_end(owner: Owner) -> Owner:
        return Owner("unmark", was_blocked=owner.was_blocked)

    def _has_lease(self, state: State, owner: Owner) -> bool:
        holds = (owner.current and not state.lease_over) or owner.leased > 0
        return holds or not self._passes_checks_only_when_current

    def _must_announce(self, owner: Owner) -> bool:
        if self.bug is Bug.ANNOUNCES_ONCE:
            return not owner.announced
        return self.bug is not Bug.NO_ANNOUNCEMENT

    def _somebody_is_sending(self, state: State, replay: str) -> bool:
        return any(owner.at == "send" and self.operations[owner.done] == replay for owner in state.owners)

    @staticmethod
    def _refusal(replay: str) -> str:
        return "conflict_detected" if replay == CONDITIONAL else "rejected"

    def _effects_of(self, state: State, replay: str) -> int:
        return state.effects[self.operations.index(replay)]

    def _effect(self, state: State, replay: str) -> tuple[int, ...]:
        """What the remote holds after a request: it refuses, or converges, where it can tell."""
        position = self.operations.index(replay)
        count = state.effects[position]
        known = replay in KEYED and self.bug is not Bug.NO_KEY
        count = 1 if known else min(2, count + 1)
        return (*state.effects[:position], count, *state.effects[position + 1 :])

    def _applied(self, state: State, replay: str) -> State:
        """The state once a request has taken effect."""
        row = ROWS.index(replay) + 1 if replay in ROWS else state.row
        return state._replace(effects=self._effect(state, replay), row=row)

    @staticmethod
    def _joined(state: State, owner: Owner) -> State:
        return state._replace(owners=tuple(sorted((*state.owners, owner))))

    def _moved(self, state: State, index: int, owner: Owner | None, **changes: object) -> State:
        """Put an owner to its next step, or take it out."""
        owners = list(state.owners)
        del owners[index]
        if owner is not None:
            owners.append(owner)
        return self._tidy(state._replace(owners=owners, **changes))

    def _tidy(self, state: State) -> State:
        """Put the owners in order, and take out who can do nothing visible any more."""
        owners = state.owners
        if self.merged:
            owners = [owner for owner in owners if owner.current or not self._is_done_for(state, owner)]
        return state._replace(owners=tuple(sorted(owners)))

    def _is_done_for(self, state: State, owner: Owner) -> bool:
        """Tell whether nothing that this owner can still do is visible to anybody."""
        if owner.at == "abandon":
            # A tombstone may go again where a new run replaces it.
            return state.plan == "present" or (state.plan == "abandoned" and not self.newcomers)
        if self.bug in (Bug.NO_FENCING, Bug.ANY_412_IS_OURS):
            return False
        if owner.at in ("ready", "waiting"):
            return not self._has_lease(state, owner)
        if owner.at == "send":
            is_last = owner.done == len(self.operations) - 1
            replay = self.operations[owner.done]
            converged = replay in KEYED - {*ROWS} and self._effects_of(state, replay) == 1
            converged = converged and self.bug is not Bug.NO_KEY and not owner.leased
            return converged and not is_last and self._passes_checks_only_when_current
        if owner.at == "give_up" and self.bug is Bug.ABANDON_WITHOUT_FENCE:
            return False
        return owner.at in ("claim", "record", "end", "give_up", "wait")

    @property
    def _passes_checks_only_when_current(self) -> bool:
        return not (self.clock_jumps or self.bug in (Bug.NO_LEASE, Bug.NO_OWN_CHECK))


_DOUBLED = {
    CREATE: Broken.DOUBLED_KEYED,
    UPSERT: Broken.DOUBLED_KEYED,
    CONDITIONAL: Broken.DOUBLED_KEYED,
    LOOKUP: Broken.DOUBLED_LOOKUP,
    UNPROVABLE: Broken.DOUBLED_UNPROVABLE,
    FIRST_ROW: Broken.DOUBLED_KEYED,
    NEXT_ROW: Broken.DOUBLED_KEYED,
}


@dataclass
class Exploration:
    """Each state with its number, and for each broken invariant the shortest way to it."""

    model: Model
    numbers: dict[State, int] = field(default_factory=dict)
    steps: int = 0
    found: dict[Broken, list[str]] = field(default_factory=dict)
    came_from: list[int] = field(default_factory=list)
    came_by: list[str] = field(default_factory=list)
    edges_back: list[list[int]] = field(default_factory=list)

    @property
    def states(self) -> int:
        return len(self.numbers)

    def trace(self, number: int) -> list[str]:
        """Return the labels of a shortest way to a state."""
        way: list[str] = []
        while number > 0:
            way.append(self.came_by[number])
            number = self.came_from[number]
        return way[::-1]

    def dead_end(self, goal: Callable[[State], bool]) -> list[str] | None:
        """Return the way to a state from which no goal can be reached; None if there is none."""
        alive = bytearray(self.states)
        queue = deque(number for state, number in self.numbers.items() if goal(state))
        for number in queue:
            alive[number] = 1
        while queue:
            for before in self.edges_back[queue.popleft()]:
                if not alive[before]:
                    alive[before] = 1
                    queue.append(before)
        dead = alive.find(0)
        return None if dead < 0 else self.trace(dead)

    def _number(self, state: State, before: int, label: str) -> tuple[int, bool]:
        known = self.numbers.get(state)
        if known is not None:
            return known, False
        number = self.numbers[state] = len(self.numbers)
        self.came_from.append(before)
        self.came_by.append(label)
        self.edges_back.append([])
        return number, True


def explore(model: Model, *, until: Broken | None = None) -> Exploration:
    """Visit every reachable state, breadth first; stop early once ``until`` is found.

    A broken invariant does not end the search: what lies behind it is looked at as well, so that a
    bug is known by everything that it breaks.
    """
    start = model.initial()
    seen = Exploration(model)
    seen._number(start, -1, "")
    queue = deque([start])
    while queue:
        state = queue.popleft()
        number = seen.numbers[state]
        for label, after, told in model.steps(state):
            seen.steps += 1
            known, is_new = seen._number(after, number, label)
            seen.edges_back[known].append(number)
            if is_new:
                queue.append(after)
                for broken in model.broken(after):
                    seen.found.setdefault(broken, seen.trace(known))
            if told:
                seen.found.setdefault(told, [*seen.trace(number), label])
        if until in seen.found:
            return seen
    if way := seen.dead_end(model.settled):
        seen.found[Broken.DEAD_END] = way
    return seen
