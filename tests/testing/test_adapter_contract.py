"""The contract kit finds what is wrong with an adapter, and the adapter without the bug passes."""

import os
from contextlib import contextmanager

import pytest

from tests.support.dataverse_backdoor import SECRET, Dataverse, running_any_table, running_dataverse
from tests.support.reference_remote import ReferenceAdapter, Text, serve
from writeahead import Operation, PlannedOperation, Receipt, emits
from writeahead.adapters.base import TransactionalAdapter
from writeahead.errors import Applied, ConflictError, NotReady, PermanentError, TransientError
from writeahead.protocol.emission import Emission
from writeahead.testing import AdapterContract, RemoteRow

FOREVER = 10**6


class ReferenceBackdoor:
    """The remote that counts the effects of each key."""

    secrets = ("planted-password",)

    def __init__(self, remote, make=ReferenceAdapter, kinds=("create", "upsert", "lookup", "mail")) -> None:
        self.remote, self.url, self.make = remote, remote.url, make
        self.operations = {
            kind: (lambda kind=kind: Operation(kind=kind, payload={"text": "hello"})) for kind in kinds
        }

    def adapter(self, url, clock):
        return self.make(url)

    rotated = adapter

    def other_content(self, operation):
        return operation.model_copy(update={"payload": {"text": "good-bye"}})

    def rows(self, operation):
        row = RemoteRow(operation.key, {"text": self.remote.rows.get(operation.key)})
        return [row] * self.remote.effects[operation.key]

    def snapshot(self):
        return self.remote.state()[:2]

    def edit(self, operation, *, guarded):
        self.remote.rows[operation.key] = "another user's"
        return lambda: self.remote.rows[operation.key] == "another user's"

    def remove(self, operation):
        raise NotImplementedError

    def take_key(self, operation):
        raise NotImplementedError


@pytest.fixture(scope="module")
def remote():
    with serve() as running:
        yield running


@pytest.fixture(scope="module")
def crm(tmp_path_factory):
    with running_dataverse(tmp_path_factory.mktemp("crm")) as running:
        yield running


@pytest.fixture
def five(remote, tmp_path):
    """The kit on the five kinds, with an adapter of choice."""

    @contextmanager
    def on(make, *kinds):
        contract = type("Contract", (AdapterContract,), {})()
        with contract.on(ReferenceBackdoor(remote, make, kinds), tmp_path):
            yield contract

    return on


@pytest.fixture
def dataverse(crm, tmp_path):
    """The kit on the simulator, with one kind, and the adapter changed by a function."""

    @contextmanager
    def on(change, kind):
        backdoor = Dataverse(crm.sim)
        backdoor.operations = {kind: backdoor.operations[kind]}
        honest = backdoor.adapter

        def adapter(url, clock):
            made = honest(url, clock)
            change(made)
            return made

        backdoor.adapter = adapter
        contract = type(
            "Contract", (AdapterContract,), {"impossible": {"transaction": "not looked at here"}}
        )()
        with contract.on(backdoor, tmp_path):
            yield contract

    return on


def caught(what):
    return pytest.raises(AssertionError, match=f"(?m)^[a-z_]+, .*{what}")


# ---- creates


class PlainPost(ReferenceAdapter):
    @emits("create_with_key")
    def emit_create(self, payload: Text, operation: PlannedOperation) -> Receipt:
        return self._write("POST", payload, operation, {})


def test_a_plain_post(five):
    for make, outcome in ((ReferenceAdapter, None), (PlainPost, "duplicate")):
        with five(make, "create") as contract:
            tests = [
                lambda c=contract: c.test_each_fault_at_each_exchange("lost reply", 1),
                lambda c=contract: c.test_each_fault_at_each_exchange("500, applied", 1),
                lambda c=contract: c.test_a_crash_at_each_exchange(applied=True),
                lambda c=contract: c.test_a_kill(applied=True),
                contract.test_two_resumers_at_once,
                lambda c=contract: c.test_a_request_that_arrives_late(edited=False),
                contract.test_a_session_that_lost_its_artifacts,
            ]
            for test in tests:
                if outcome is None:
                    test()
                else:
                    with caught(outcome):
                        test()


class NewKeyEachTime(ReferenceAdapter):
    @emits("create_with_key")
    def emit_create(self, payload: Text, operation: PlannedOperation) -> Receipt:
        other = operation.model_copy(update={"key": f"{operation.key}-{os.urandom(4).hex()}"})
        return self._guarded(payload, other, {"If-None-Match": "*"})


def test_a_key_of_its_own(five):
    missing = pytest.raises(AssertionError, match="loss: said to be done, and no row")
    with missing, five(NewKeyEachTime, "create"):
        pass


def test_somebody_elses_row_is_taken_for_ours(dataverse):
    def swallow(adapter):
        honest = adapter.emit_phone_call_activity

        def emit(payload, operation):
            try:
                return honest(payload, operation)
            except ConflictError:
                return Receipt(remote_id=operation.key)

        adapter.emit_phone_call_activity = emit

    with dataverse(lambda adapter: None, "phone_call_activity") as contract:
        contract.test_a_key_that_is_taken()
    with dataverse(swallow, "phone_call_activity") as contract, caught("loss: it must end conflict_detected"):
        contract.test_a_key_that_is_taken()


# ---- updates


def swallow_conflict(adapter):
    honest = adapter.emit_queue_status_update

    def emit(payload, operation):
        try:
            return honest(payload, operation)
        except ConflictError:
            return Receipt(remote_id=payload.row_id)

    adapter.emit_queue_status_update = emit


def without_condition(adapter):
    honest = adapter._client.patch

    def patch(*args, if_match, **more):
        return honest(*args, **more)

    adapter._client.patch = patch


def test_a_swallowed_412(dataverse):
    with dataverse(swallow_conflict, "queue_status_update") as contract:
        with caught("loss: it must end conflict_detected"):
            contract.test_an_edit_between_plan_and_send()
        with caught("loss: it must end conflict_detected"):
            contract.test_an_edit_between_two_runs()
        with caught("loss: it must end conflict_detected"):
            contract.test_a_row_that_is_gone()


def test_an_update_without_its_condition(dataverse):
    with dataverse(without_condition, "queue_status_update") as contract:
        with caught("loss: what another user wrote is gone"):
            contract.test_an_edit_between_plan_and_send()
        with caught("loss: what another user wrote is gone"):
            contract.test_an_edit_between_two_runs()
        with caught("loss: what another user wrote is gone"):
            contract.test_a_request_that_arrives_late(edited=True)
        with caught("loss: a row that another user deleted"):
            contract.test_a_row_that_is_gone()


def test_the_honest_update(dataverse):
    with dataverse(lambda adapter: None, "queue_status_update") as contract:
        contract.test_an_edit_between_plan_and_send()
        contract.test_an_edit_between_two_runs()
        contract.test_an_edit_elsewhere_in_the_row()
        contract.test_a_request_that_arrives_late(edited=True)
        contract.test_a_row_that_is_gone()


# ---- lookups, and what can't be proved


class FindsNothing(ReferenceAdapter):
    def find_lookup(self, payload: Text, operation: PlannedOperation) -> Receipt | None:
        return None


class MailAsUpsert(ReferenceAdapter):
    @emits("upsert")
    def emit_mail(self, payload: Text, operation: PlannedOperation) -> Receipt:
        return self._write("POST", payload, operation, {})


class SureOfItself(ReferenceAdapter):
    """Says that a request whose reply never came was not applied."""

    @emits("unprovable")
    def emit_mail(self, payload: Text, operation: PlannedOperation) -> Receipt:
        try:
            return self._write("POST", payload, operation, {})
        except TransientError as error:
            error.applied = Applied.NO
            raise


@pytest.mark.parametrize(
    ("make", "kind"), [(FindsNothing, "lookup"), (MailAsUpsert, "mail"), (SureOfItself, "mail")]
)
def test_a_second_send(five, make, kind):
    with five(ReferenceAdapter, kind) as contract:
        contract.test_each_fault_at_each_exchange("lost reply", FOREVER)
        contract.test_each_fault_at_each_exchange("503, applied", 1)
        contract.test_a_crash_at_each_exchange(applied=True)
    with five(make, kind) as contract:
        with caught("duplicate"):
            contract.test_each_fault_at_each_exchange("lost reply", FOREVER)
        with caught("duplicate"):
            contract.test_each_fault_at_each_exchange("503, applied", 1)


# ---- what a plan is bound to


class TakesExistsForApplied(ReferenceAdapter):
    """Finds the key taken, and looks no further."""

    def _read(self, operation):
        return Receipt(remote_id=operation.key, outcome="already_applied")


class RefusesTooLate(ReferenceAdapter):
    """Finds out about the conflict, and has written by then."""

    def _exchange(self, method, operation, headers, body):
        try:
            return super()._exchange(method, operation, headers, body)
        except ConflictError:
            self._http.put(f"/plain/{operation.key}", content=body).raise_for_status()
            raise


class OverwritesInSilence(ReferenceAdapter):
    """Does not say what it plans, so the remote can't tell either."""

    @emits("upsert")
    def emit_upsert(self, payload: Text, operation: PlannedOperation) -> Receipt:
        return self._write("PUT", payload, operation.model_copy(update={"kind": "plain"}), {})


class ComparesContent(ReferenceAdapter):
    """Takes another user's edit of our own row for another session's content."""

    def _read(self, operation):
        reply = self._exchange("GET", operation, {}, b"")
        if reply.json()["text"] != operation.payload["text"]:
            raise ConflictError("other content")
        return Receipt(remote_id=operation.key, outcome="already_applied")


class FindsAnything(ReferenceAdapter):
    """Searches for the key, and looks no further."""

    def find_lookup(self, payload: Text, operation: PlannedOperation) -> Receipt | None:
        return Receipt(remote_id=operation.key, outcome="already_applied")


def test_other_content_under_the_same_id(five):
    with five(ReferenceAdapter, "create", "upsert", "lookup") as contract:
        contract.test_the_same_id_with_other_content()
        contract.test_the_same_id_with_the_same_content()
    said = "loss: completed, and the remote has the content of the first session only"
    with five(TakesExistsForApplied, "create") as contract, caught(said):
        contract.test_the_same_id_with_other_content()
    with five(FindsAnything, "lookup") as contract, caught(said):
        contract.test_the_same_id_with_other_content()
    said = "loss: refused, and the row of the first session has changed"
    with five(RefusesTooLate, "upsert") as contract, caught(said):
        contract.test_the_same_id_with_other_content()
    with five(OverwritesInSilence, "upsert") as contract, caught("loss: completed over the content"):
        contract.test_the_same_id_with_other_content()


def test_an_edit_of_a_row_of_ours_is_no_other_content(five):
    with five(ReferenceAdapter, "create") as contract:
        contract.test_an_edit_of_what_was_written()
    with five(ComparesContent, "create") as contract, caught("stuck: blocked conflict_detected"):
        contract.test_an_edit_of_what_was_written()


class Unbound(ReferenceAdapter):
    def target(self):
        return None


class BoundToItself(ReferenceAdapter):
    def target(self):
        return f"{id(self)}"


class BoundToItsSecret(ReferenceAdapter):
    def target(self):
        return f"{self._url} planted-password"


class BoundToItsName(ReferenceAdapter):
    def target(self):
        return "five-kinds"


def test_a_target_that_is_missing_or_is_none(five):
    with five(ReferenceAdapter, "create") as contract:
        contract.test_the_target_names_the_remote()
        contract.test_the_target_survives_a_new_secret()
    for make, said in (
        (Unbound, "target: the adapter names none"),
        (BoundToItself, "target: two adapters with the same settings differ"),
        (BoundToItsName, "target: two remotes have the same"),
    ):
        with five(make, "create") as contract, pytest.raises(AssertionError, match=said):
            contract.test_the_target_names_the_remote()
    with five(BoundToItself, "create") as contract, pytest.raises(AssertionError, match="a new secret"):
        contract.test_the_target_survives_a_new_secret()
    # It is in the plan, where every trial looks for secrets.
    with pytest.raises(AssertionError, match="leak: a secret"), five(BoundToItsSecret, "create"):
        pass


@pytest.fixture(params=[True, False], ids=["guarded", "unguarded"])
def upserts(request, tmp_path):
    """The kit on an upsert of Dataverse: of a row's version, or of whatever there is."""
    with running_any_table(tmp_path, guarded=request.param) as backdoor:
        backdoor.operations = {"upsert_row": backdoor.operations["upsert_row"]}
        contract = type("Contract", (AdapterContract,), {"impossible": {"transaction": "of no interest"}})()
        with contract.on(backdoor, tmp_path / "artifacts"):
            yield contract, request.param


def test_an_upsert_that_lands_late(upserts, monkeypatch):
    contract, guarded = upserts
    contract.test_an_upsert_that_lands_late()
    monkeypatch.setattr(Emission, "_wait_for_late_requests", lambda self, unit: None)
    if guarded:
        contract.test_an_upsert_that_lands_late()
    else:
        with caught("loss: a late upsert undid the next one of its row"):
            contract.test_an_upsert_that_lands_late()


def test_late_upserts_that_are_not_promised(five, upserts, monkeypatch):
    contract, _ = upserts
    monkeypatch.setattr(type(contract), "_settles_after", lambda self, kind: None)
    with pytest.raises(pytest.skip.Exception, match="a late upsert can undo a later write of its row"):
        contract.test_an_upsert_that_lands_late()
    with five(ReferenceAdapter, "upsert") as own, pytest.raises(pytest.skip.Exception, match="of its own"):
        own.test_an_upsert_that_lands_late()


# ---- what an error says of its request


class Misjudges(ReferenceAdapter):
    """Changes the error of each 503."""

    def _exchange(self, method, operation, headers, body):
        try:
            return super()._exchange(method, operation, headers, body)
        except TransientError as error:
            if "503" in str(error):
                self.misjudge(error)
            raise

    def misjudge(self, error):
        """Say that the request was surely not applied."""
        error.applied = Applied.NO


class MisjudgesBusy(Misjudges):
    """A 503 with Retry-After only, as of a server that is too busy to begin."""

    def misjudge(self, error):
        if error.retry_after:
            error.applied = Applied.NO


class MisjudgesAsNotReady(Misjudges):
    """Says that it was found out before anything was sent."""

    def misjudge(self, error):
        raise NotReady("the remote is down") from None


@pytest.mark.parametrize("kind", ["create", "upsert", "lookup", "mail"])
@pytest.mark.parametrize("make", [Misjudges, MisjudgesBusy, MisjudgesAsNotReady])
def test_an_applied_503_that_counts_as_refused(five, make, kind):
    with five(ReferenceAdapter, kind) as contract:
        contract.test_each_fault_at_each_exchange("503 seconds, applied", FOREVER)
    with five(make, kind) as contract:
        with caught("claim: (TransientError|NotReady) said that nothing was applied"):
            contract.test_each_fault_at_each_exchange("503 seconds, applied", FOREVER)
        # Where it is true, it may be said.
        contract.test_each_fault_at_each_exchange("503", FOREVER)


# ---- transactions


class OneByOne(ReferenceAdapter, TransactionalAdapter):
    """Calls a transaction what is none."""

    def transact(self, operations):
        return [self.emit(operation) for operation in operations]


@pytest.mark.parametrize("name", ["503", "reset before apply"])
def test_a_transaction_in_parts(five, name):
    with five(OneByOne, "create", "upsert") as contract:
        with pytest.raises(AssertionError, match="loss: a part of a transaction is there"):
            contract.test_each_fault_at_each_exchange(name, FOREVER)
        with pytest.raises(AssertionError, match="loss: a part of a transaction is there"):
            contract.test_a_crash_at_each_exchange(applied=True)


# ---- all kinds


class RetriesInside(ReferenceAdapter):
    @emits("create_with_key")
    def emit_create(self, payload: Text, operation: PlannedOperation) -> Receipt:
        try:
            return super().emit_create(payload, operation)
        except TransientError:
            return super().emit_create(payload, operation)


@pytest.mark.parametrize("status", [429, 503])
def test_a_retry_inside(five, status):
    with five(ReferenceAdapter, "create") as contract:
        contract.test_nothing_is_sent_again_inside_an_attempt(status)
    with five(RetriesInside, "create") as contract, caught("retry: "):
        contract.test_nothing_is_sent_again_inside_an_attempt(status)


class NeverWaits(ReferenceAdapter):
    @emits("create_with_key")
    def emit_create(self, payload: Text, operation: PlannedOperation) -> Receipt:
        try:
            return super().emit_create(payload, operation)
        except TransientError as error:
            error.retry_after = None
            raise


@pytest.mark.parametrize("name", ["429 seconds", "429 date", "503 seconds"])
def test_a_wait_that_is_ignored(five, name):
    with five(ReferenceAdapter, "create") as contract:
        contract.test_each_fault_at_each_exchange(name, 1)
    with five(NeverWaits, "create") as contract, caught("retry: Retry-After was 7 s"):
        contract.test_each_fault_at_each_exchange(name, 1)


class WaitsAlone(ReferenceAdapter):
    """Says that each Retry-After is about one row."""

    @emits("create_with_key")
    def emit_create(self, payload: Text, operation: PlannedOperation) -> Receipt:
        try:
            return super().emit_create(payload, operation)
        except TransientError as error:
            error.for_target = False
            raise


class OtherTarget(ReferenceAdapter):
    """Names another target each time."""

    def target(self):
        return str(id(self))


def test_a_wait_that_others_do_not_heed(five):
    with five(ReferenceAdapter, "create") as contract:
        contract.test_a_wait_holds_for_the_whole_target()
    with five(NeverWaits, "create") as contract, caught("retry: it must wait 10800 s"):
        contract.test_a_wait_holds_for_the_whole_target()
    for make in (WaitsAlone, OtherTarget):
        with five(make, "create") as contract, caught("retry: it sent before the wait of its target"):
            contract.test_a_wait_holds_for_the_whole_target()


class GivesUp(ReferenceAdapter):
    @emits("create_with_key")
    def emit_create(self, payload: Text, operation: PlannedOperation) -> Receipt:
        try:
            return super().emit_create(payload, operation)
        except TransientError as error:
            raise PermanentError(str(error)) from None


@pytest.mark.parametrize("name", ["reset before apply", "502", "not JSON", "408"])
def test_giving_up_on_what_passes(five, name):
    with five(ReferenceAdapter, "create") as contract:
        contract.test_each_fault_at_each_exchange(name, FOREVER)
    with five(GivesUp, "create") as contract, caught("stuck: blocked rejected"):
        contract.test_each_fault_at_each_exchange(name, FOREVER)


def test_a_secret_in_a_message(dataverse):
    def tell(adapter):
        honest = adapter.emit_phone_call_activity

        def emit(payload, operation):
            try:
                return honest(payload, operation)
            except TransientError as error:
                raise TransientError(f"{error} with {SECRET}") from None

        adapter.emit_phone_call_activity = emit

    with dataverse(tell, "phone_call_activity") as contract, caught("leak: a secret"):
        contract.test_each_fault_at_each_exchange("502", 1)


class WrongReceipt(ReferenceAdapter):
    @emits("create_with_key")
    def emit_create(self, payload: Text, operation: PlannedOperation) -> Receipt:
        super().emit_create(payload, operation)
        return Receipt(remote_id="another row")


def test_a_receipt_that_names_another_row(five):
    with pytest.raises(AssertionError, match="receipt: it names 'another row'"), five(WrongReceipt, "create"):
        pass


class WritesWhilePlanning(ReferenceAdapter):
    def plan(self, operations):
        planned = super().plan(operations)
        self._write("PUT", Text(text="reserved"), planned[0].model_copy(update={"kind": "upsert"}), {})
        return planned


def test_an_effect_of_planning(five):
    with five(ReferenceAdapter, "lookup") as contract:
        contract.test_planning_has_no_side_effect()
    with pytest.raises(AssertionError, match="duplicate"), five(WritesWhilePlanning, "lookup") as contract:
        contract.test_planning_has_no_side_effect()


def test_a_baseline_of_the_caller_that_nobody_looks_at(dataverse):
    def blind(made):
        plan = made.plan
        made.plan = lambda asked: plan([one.model_copy(update={"baseline": None}) for one in asked])

    for change, outcome in ((lambda _made: None, None), (blind, "since it was loaded: loss")):
        with dataverse(change, "queue_status_update") as contract:
            contract.test_a_row_that_nobody_touched_since_it_was_loaded()
            for removed in (False, True):
                if outcome is None:
                    contract.test_an_edit_between_load_and_plan(removed=removed)
                else:
                    with caught(outcome):
                        contract.test_an_edit_between_load_and_plan(removed=removed)


# ---- an adapter that looks before it writes


class LooksFirst(ReferenceAdapter):
    """Asks whether the row is there, and writes then."""

    @emits("create_with_key")
    def emit_create(self, payload: Text, operation: PlannedOperation) -> Receipt:
        ReferenceAdapter._read(self, operation)
        return super().emit_create(payload, operation)


class LooksAndCompares(LooksFirst, ComparesContent):
    """The same, and it takes an edit of its own row for another session's content."""


class LooksAndPosts(LooksFirst, PlainPost):
    """The same, and nothing holds a second write back."""


def test_the_write_is_not_the_first_request(five):
    with five(LooksFirst, "create") as contract:
        clean = contract._cleans["create"]
        assert (clean.planning, clean.write, clean.total, clean.moments()) == (0, 1, 2, [0, 1])
        contract.test_an_edit_of_what_was_written()
        contract.test_two_resumers_at_once()
        contract.test_a_request_that_arrives_late(edited=True)
        contract.test_each_fault_after_a_lost_reply("503")
    with five(LooksAndCompares, "create") as contract, caught("stuck: blocked conflict_detected"):
        contract.test_an_edit_of_what_was_written()
    with five(LooksAndPosts, "create") as contract:
        for test in (
            lambda: contract.test_a_kill(applied=True),
            lambda: contract.test_each_fault_after_a_lost_reply("503"),
            lambda: contract.test_a_request_that_arrives_late(edited=False),
            contract.test_two_resumers_at_once,
        ):
            with caught("duplicate"):
                test()


class NoPlanIsKept(ReferenceAdapter):
    """Writes while it plans, and looks then: that may fail."""

    def plan(self, operations):
        planned = super().plan(operations)
        self._write("PUT", Text(text="hello"), planned[0].model_copy(update={"kind": "upsert"}), {})
        for _ in range(2):
            self._read(planned[0])
        return planned


class GivesUpAtPlanning(ReferenceAdapter):
    """Takes a row that it can't read for one that was changed."""

    def plan(self, operations):
        planned = super().plan(operations)
        try:
            for _ in range(3):
                self._read(planned[0])
        except TransientError as error:
            raise ConflictError(str(error)) from None
        return planned


class LooksAtPlanning(ReferenceAdapter):
    """Reads before there is a plan."""

    def plan(self, operations):
        planned = super().plan(operations)
        for _ in range(3):
            self._read(planned[0])
        return planned


def _tests_of_planning(contract, name):
    return [
        lambda: contract.test_each_fault_at_each_exchange(name, FOREVER),
        lambda: contract.test_each_lookup_of_planning(name),
    ]


@pytest.mark.parametrize("name", ["503", "not JSON", "truncated reply"])
def test_a_fault_at_planning(five, name):
    with five(LooksAtPlanning, "create") as contract:
        for test in _tests_of_planning(contract, name):
            test()
        assert contract._tallies["create"]["cases"] == 4
    with five(NoPlanIsKept, "upsert") as contract:
        for test in _tests_of_planning(contract, name):
            with caught("duplicate: something is written, and no plan"):
                test()
    with five(GivesUpAtPlanning, "create") as contract:
        for test in _tests_of_planning(contract, name):
            with caught("stuck: a fault at planning passes"):
                test()


# ---- the kit itself


def test_what_is_impossible_is_skipped_with_its_reason(remote, tmp_path):
    class Contract(AdapterContract):
        impossible = {"take_key": "there are no rows of others"}  # noqa: RUF012 - as a reader would write it

    contract = Contract()
    with (
        contract.on(ReferenceBackdoor(remote), tmp_path),
        pytest.raises(pytest.skip.Exception, match="no rows of"),
    ):
        contract.test_a_key_that_is_taken()


@pytest.mark.parametrize("part", ["take_key", "remove", "edit", "snapshot"])
def test_a_backdoor_without_a_method_is_told_what_to_do(remote, tmp_path, part):
    test = {
        "take_key": AdapterContract.test_a_key_that_is_taken,
        "remove": AdapterContract.test_a_row_that_is_gone,
        "edit": AdapterContract.test_an_edit_between_two_runs,
        "snapshot": AdapterContract.test_planning_has_no_side_effect,
    }[part]
    methods = {name: value for name, value in vars(ReferenceBackdoor).items() if name != part}
    backdoor = type("Half", (), methods)(remote, kinds=("create", "update"))
    contract = type("Contract", (AdapterContract,), {})()
    line = f"give Half {part}, or declare '{part}' impossible, with the reason"
    # A skip in place of a failure would skip this test, too.
    told = pytest.raises((AssertionError, pytest.skip.Exception), match=line)
    with contract.on(backdoor, tmp_path), told:
        test(contract)


@pytest.mark.parametrize("secrets", [(), ("planted-password",)])
def test_what_has_no_secret_needs_no_other_one(remote, tmp_path, secrets):
    methods = {name: value for name, value in vars(ReferenceBackdoor).items() if name != "rotated"}
    backdoor = type("Half", (), methods | {"secrets": secrets})(remote, kinds=("upsert",))
    contract = type("Contract", (AdapterContract,), {})()
    told = "give Half rotated" if secrets else "names no secret"
    # Either, since a skip in place of a failure would skip this test, too.
    with contract.on(backdoor, tmp_path), pytest.raises((AssertionError, pytest.skip.Exception), match=told):
        contract.test_the_target_survives_a_new_secret()


def test_a_backdoor_without_what_every_test_needs(remote, tmp_path):
    backdoor = type("Half", (), {"url": remote.url, "secrets": (), "operations": {}})()
    with (
        pytest.raises(AssertionError, match=r"(?m)give Half adapter and rows$"),
        AdapterContract().on(backdoor, tmp_path),
    ):
        pass


def test_cases_are_counted(five):
    with five(ReferenceAdapter, "create", "mail") as contract:
        contract.test_each_fault_at_each_exchange("503", 1)
        contract.test_each_fault_after_a_lost_reply("503")
        assert {kind: tally["cases"] for kind, tally in contract._tallies.items()} == {"create": 3, "mail": 1}
        assert contract._tallies["mail"]["replay"] == "unprovable"


if os.environ.get("WRITEAHEAD_TESTS") == "full":

    @pytest.fixture(scope="module")
    def backdoor(remote):
        return ReferenceBackdoor(remote)

    class TestReferenceAdapter(AdapterContract):
        impossible = {"take_key": "a key's row is its content"}  # noqa: RUF012 - as a reader would write it
