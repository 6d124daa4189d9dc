"""What a session still lacks, as a request of its own."""

from datetime import timedelta

import pytest
from pydantic import BaseModel

from tests.support.remotes import Meets, RemoteAdapter, Text, operations
from tests.support.worlds import World, held_by_another, refuse
from writeahead import Operation, PlannedOperation, Receipt, RunPolicy, emits, write_back
from writeahead.errors import InvalidInput, ResumeError
from writeahead.model import KeyedOperation, ReplayClass, ref
from writeahead.protocol.session import read_stored
from writeahead.protocol.unblocking import abandon_session
from writeahead.report.remaining import Asked, remaining_operations


class Numbered(BaseModel):
    text: str = ""
    about: str | None = None


class Translating(RemoteAdapter):
    """A kind whose planning changes the payload's shape, and one whose model has defaults."""

    @emits("create_with_key")
    def emit_row(self, payload: Numbered, operation: PlannedOperation) -> Receipt:
        return self._send(operation, proved=True)

    @emits("conditional_update")
    def emit_loud(self, payload: Text, operation: PlannedOperation) -> Receipt:
        return self._send(operation, proved=True)

    def plan_loud(self, payload: Numbered, operation: KeyedOperation) -> PlannedOperation:
        loud = {"text": payload.text.upper()}
        return PlannedOperation(
            id=operation.id,
            kind=operation.kind,
            key=operation.key,
            payload=loud,
            replay=ReplayClass.CONDITIONAL_UPDATE,
            precondition={"etag": "1"},
        )


def world_of(meets=Meets.REJECTED, at="2-create", adapter=RemoteAdapter):
    world = World(RunPolicy(attempts=1, journal_interval=0))
    world.adapter = adapter(world.remote)
    world.remote.script[at] = [meets]
    return world


def remaining_of(world, asked=None):
    session = read_stored(world.store, "s1")
    return remaining_operations(session, now=world.clock.now(), clock_skew=0, asked=asked)


def given_up(world):
    abandon_session("s1", store=world.store, reason="another payload is needed", clock=world.clock)


def test_what_has_no_receipt_comes_back_as_it_was_asked_for():
    world = world_of()
    asked = operations("create", "create", "mail")
    world.run_operations(asked)
    given_up(world)
    found = remaining_of(world)
    assert [operation.model_dump() for operation in found.operations] == [
        {"id": "2-create", "kind": "create", "payload": asked[1]["payload"]},
        {"id": "3-mail", "kind": "mail", "payload": asked[2]["payload"]},
    ]
    assert (found.attempted, found.warnings) == ({}, ())
    # It is a request that runs as it is.
    report = write_back(
        found.operations, session_id="s2", store=world.store, adapter=world.adapter, clock=world.clock
    )
    assert report.ok
    assert world.remote.requests == ["1-create", "2-create", "2-create", "3-mail"]


def test_what_may_have_been_sent_is_named_with_its_moment():
    world = world_of(Meets.LOST_REPLY)
    world.run("create", "create", "create")
    given_up(world)
    found = remaining_of(world)
    assert [operation.id for operation in found.operations] == ["2-create", "3-create"]
    assert list(found.attempted) == ["2-create"]
    (warning,) = found.warnings
    assert warning.startswith("2-create may have been sent, ")
    assert "under another one the remote applies it again" in warning


def test_a_silent_owner_may_have_sent_all_that_it_did_not_announce():
    world = World()
    held_by_another(world, kinds=("create", "update", "mail"))
    found = remaining_of(world)
    assert list(found.attempted) == ["2-update"]
    assert any("is held by an active run" in warning for warning in found.warnings)


def test_a_session_that_goes_on_is_to_be_abandoned_first():
    world = world_of()
    world.run("create", "create")
    assert any("s1 can still be resumed" in warning for warning in remaining_of(world).warnings)
    given_up(world)
    assert remaining_of(world).warnings == ()


def test_references_to_what_is_confirmed_are_filled_in_and_others_stay():
    world = world_of(at="2-row", adapter=Translating)
    asked = [
        {"kind": "row", "payload": {"text": "x", "about": "none"}},
        {"kind": "row", "payload": {"text": "y", "about": ref("1-row")}},
        {"kind": "row", "payload": {"text": "z", "about": ref("2-row")}},
    ]
    report = world.run_operations(asked)
    given_up(world)
    found = remaining_of(world)
    remote_id = report.receipts["1-row"].remote_id
    assert remote_id
    assert [operation.payload["about"] for operation in found.operations] == [remote_id, ref("2-row")]


def test_a_reference_to_what_a_receipt_lacks_stays_and_is_named():
    world = world_of(at="2-row", adapter=Translating)
    asked = [
        {"kind": "row", "payload": {"text": "x", "about": "none"}},
        {"kind": "row", "payload": {"text": "y", "about": ref("1-row", "remote_version")}},
    ]
    world.run_operations(asked)
    given_up(world)
    found = remaining_of(world)
    assert found.operations[0].payload["about"] == ref("1-row", "remote_version")
    assert found.warnings == (
        "2-row takes a value from the receipt of 1-row, which has none: put one there by hand",
    )


# Payloads that planning changed.

LOUD = [
    {"kind": "loud", "payload": {"text": "one"}},
    {"kind": "loud", "payload": {"text": "two"}},
]


def test_payloads_that_planning_changed_are_not_passed_off_as_the_request():
    world = world_of(at="2-loud", adapter=Translating)
    world.run_operations(LOUD)
    given_up(world)
    found = remaining_of(world)
    assert found.operations[0].payload == {"text": "TWO"}
    changed, anew = found.warnings
    assert "not what it was asked for (kinds: loud)" in changed
    assert anew.startswith("2-loud: planned again")


def test_the_request_itself_brings_the_right_payloads_back():
    world = world_of(at="2-loud", adapter=Translating)
    world.run_operations(LOUD, namespace="tenant-1")
    given_up(world)
    assert any("had a namespace" in warning for warning in remaining_of(world).warnings)
    asked = Asked([Operation.model_validate(item) for item in LOUD], namespace="tenant-1")
    found = remaining_of(world, asked)
    assert [operation.payload for operation in found.operations] == [{"text": "two"}]
    assert not any("namespace" in warning or "not what" in warning for warning in found.warnings)


@pytest.mark.parametrize(
    "other",
    [
        Asked([Operation.model_validate(LOUD[0])]),
        Asked(
            [Operation(kind="loud", payload={"text": "one"}), Operation(kind="loud", payload={"text": "2"})]
        ),
        Asked([Operation.model_validate(item) for item in LOUD], namespace="tenant-1"),
        Asked([Operation.model_validate(item) for item in LOUD], identity=7),
    ],
)
def test_another_request_is_refused(other):
    world = world_of(at="2-loud", adapter=Translating)
    world.run_operations(LOUD)
    with pytest.raises(InvalidInput, match="s1 was planned from another request"):
        remaining_of(world, other)


def test_an_identity_does_not_prove_the_payloads():
    world = world_of(at="2-loud", adapter=Translating)
    world.run_operations(LOUD, identity=[7])
    given_up(world)
    assert any("had an identity, which is not kept" in warning for warning in remaining_of(world).warnings)
    other = [{**LOUD[0]}, {"kind": "loud", "payload": {"text": "later"}}]
    asked = Asked([Operation.model_validate(item) for item in other], identity=[7])
    assert any(
        "other payloads than were planned" in warning for warning in remaining_of(world, asked).warnings
    )


# What has nothing missing.


def test_a_completed_session_lacks_nothing():
    world = World()
    world.run("create")
    with pytest.raises(InvalidInput, match="is completed: nothing is missing"):
        remaining_of(world)


def test_a_session_that_lacks_its_final_only_is_to_be_resumed():
    world = World()
    refuse(world.store, "s1/writeback.json", MemoryError)
    with pytest.raises(MemoryError):
        world.run("create")
    with pytest.raises(InvalidInput, match="only its final artifact is missing: resume it"):
        remaining_of(world)
    given_up(world)
    with pytest.raises(InvalidInput, match=r"every operation has a receipt$"):
        remaining_of(world)


def test_a_session_without_a_plan_sent_nothing():
    world = World()
    world.store.put(".open/s1", b"")
    world.clock.advance(timedelta(hours=1).total_seconds())
    with pytest.raises(ResumeError, match="s1 has no plan"):
        remaining_of(world)
