"""A session that records every change of its folder, and checks of what a power cut left."""

import json
import shutil
from collections import Counter
from itertools import count

from tests.support.invariants import FINAL, MARKERS, PLAN, POLICY, Folder, Invariants, hours_later, recover
from tests.support.reference_remote import OPERATIONS, ReferenceAdapter, Remote, transport_to
from tests.support.weak_disk import Recorder, lay_out, states_after
from writeahead import RunPolicy, write_back
from writeahead.model import RunStatus
from writeahead.protocol.keys import open_key
from writeahead.protocol.sweep import sweep
from writeahead.stores.local import LocalStore


def judge(stage, place, state, returned, when):
    """Check what a power cut left of a session, and bring it to its end.

    Args:
        stage: Where it was played; its remote and adapter go on.
        place: What is left of its folder.
        state: What the remote had applied when the power was cut.
        returned: What `write_back` had returned by then, if it had.
        when: When that was, for a failure's message.
    """
    remote, adapter = stage.remote, stage.adapter
    remote.restore(state)
    invariants = Invariants(place, remote)
    try:
        there = invariants.look()
        if any(state[0].values()):
            assert PLAN in there, "something took effect, and the plan is gone"
        if returned == "completed":
            assert FINAL in there, "it was said to be completed, and the final is gone"
        claimed = PLAN not in there and any("/journal/" in key for key in there)
        if claimed or (PLAN in there and json.loads(there[PLAN])["format"] == "writeahead/abandoned"):
            assert not any(state[0].values())
            store = place.open()
            list(sweep(store=store, adapter=adapter, policy=POLICY, clock=hours_later(1)))
            # The lease of the run that had claimed the tombstone's place is over by then.
            assert run_again(store, adapter, clock=hours_later(1)) is RunStatus.COMPLETED
            there = Invariants(place, remote).look()
            assert not [key for key in there if key in MARKERS], "a marker stays behind"
            return "abandoned"
        return recover(place, remote, invariants, 1, adapter)
    except Exception as error:
        raise AssertionError(f"{when}, with {sorted(place.objects())}: {error}") from error


def run_again(store, adapter, interval=0, clock=None) -> RunStatus:
    """Run the session, and say how that ended."""
    policy = RunPolicy(clock_skew=0, wait_initial=0, journal_interval=interval)
    means = {"store": store, "adapter": adapter, "policy": policy, "clock": clock}
    return write_back(OPERATIONS, session_id="s1", **means).status


class Environment:
    """A session on a recorded folder, with a remote that survives power cuts."""

    def __init__(self, folder) -> None:
        self.folder, self.remote = folder, Remote()
        folder.mkdir(exist_ok=True)
        self.recorder = self.new_recorder(folder / "store")
        self.adapter = ReferenceAdapter(self.remote.url, transport=transport_to(self.remote))
        self._numbers = count()
        answer = self.remote.answer

        def noted(method, path, headers, body):
            reply = answer(method, path, headers, body)
            self.recorder.note(("remote", self.remote.state()))
            return reply

        self.remote.answer = noted

    def new_recorder(self, root):
        return Recorder(root)

    def run(self, interval=0):
        status = run_again(LocalStore(self.recorder.root), self.adapter, interval)
        self.recorder.note(("returned", str(status)))

    def run_in_a_tombstones_place(self, interval=0):
        """Run a session whose first run died before its plan, and was given a tombstone."""
        store = LocalStore(self.recorder.root)
        store.put(open_key("s1"), b"")
        list(sweep(store=store, adapter=self.adapter, policy=POLICY, clock=hours_later(1)))
        self.run(interval)

    def cut_everywhere(self, first=0):
        """Cut the power after each event from ``first`` on. Gives the number of states by end."""
        events, known, ends = list(self.recorder.events), set(), Counter()
        self.recorder.events = []
        state, returned = Remote().state(), None
        for number in range(len(events) + 1):
            if number and events[number - 1].kind == "note":
                what, value = events[number - 1].note
                state, returned = (value, returned) if what == "remote" else (state, value)
            if number < first:
                continue
            for tree in states_after(events[:number]):
                case = tree, str(state), returned
                if case not in known:
                    known.add(case)
                    ends[self._judge(tree, state, returned, f"after {number} events")] += 1
        return ends

    def _judge(self, tree, state, returned, when):
        place = Folder(self.folder / str(next(self._numbers)))
        lay_out(tree, place.path)
        end = judge(self, place, state, returned, when)
        shutil.rmtree(place.path)
        return end
