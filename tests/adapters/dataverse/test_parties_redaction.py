"""The address of a party is content of a record: in no message, repr, traceback or log."""

import logging

import httpx
import pytest

from tests.adapters.dataverse.test_redaction import ANSWERS, KEY, adapter_for, clean
from writeahead.errors import WriteaheadError
from writeahead.model import PlannedOperation, ReplayClass

CALL = PlannedOperation(
    id="1-phone_call_activity",
    kind="phone_call_activity",
    key=KEY,
    payload={
        "entity_set": "phonecalls",
        "row_id": KEY,
        "columns": {"subject": "planted-subject", "wa_sessionid": "s", "wa_operationid": "1"},
        "parties": [{"role": "to", "address": "planted-subject"}],
    },
    # A row that is older was created by an earlier session: its parties are read.
    precondition={"guarded": {}, "absent": True, "planned_at": "2026-03-02T09:00:00Z"},
    replay=ReplayClass.CREATE_WITH_KEY,
)
HELD = {
    "@odata.etag": 'W/"1"',
    "activityid": KEY,
    "subject": "planted-subject",
    "wa_sessionid": "s",
    "wa_operationid": "1",
    "createdon": "2026-03-01T09:00:00Z",
}
PARTY = {
    "participationtypemask": 2,
    "_partyid_value": None,
    "addressused": "planted-stored-value",
}


@pytest.fixture(autouse=True)
def all_logs(caplog):
    caplog.set_level(logging.DEBUG)


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("atomic", [False, True])
def test_a_create(answer, atomic, caplog):
    adapter = adapter_for(ANSWERS[answer])
    with pytest.raises(WriteaheadError) as caught:
        adapter.transact([CALL]) if atomic else adapter.emit(CALL)
    clean(caught.value, caplog)


def reading(parties):
    """A service that has the row, and answers the list of its parties in one way."""

    def handle(request):
        if request.method == "PATCH":
            return httpx.Response(412)
        if request.url.path.endswith("/activityparties"):
            return parties(request)
        return httpx.Response(200, json=HELD)

    return handle


@pytest.mark.parametrize("answer", ANSWERS)
def test_a_read_of_the_parties(answer, caplog):
    with pytest.raises(WriteaheadError) as caught:
        adapter_for(reading(ANSWERS[answer])).emit(CALL)
    clean(caught.value, caplog)


@pytest.mark.parametrize("columns", [PARTY, {}, {**PARTY, "_partyid_value": ["planted-stored-value"]}])
def test_other_parties(columns, caplog):
    handle = reading(lambda request: httpx.Response(200, json={"value": [columns]}))
    with pytest.raises(WriteaheadError) as caught:
        adapter_for(handle).emit(CALL)
    clean(caught.value, caplog)


@pytest.mark.parametrize(
    "party",
    [
        {"role": "planted-subject", "address": "x"},
        {"role": "to", "address": "planted-subject" * 99},
        {"role": "to", "address": "planted-subject", "id": KEY},
        {"role": "cc", "address": "planted-subject"},
        ["planted-subject"],
    ],
)
def test_a_plan_that_was_changed(party, caplog):
    changed = CALL.model_copy(update={"payload": {**CALL.payload, "parties": [party]}})
    with pytest.raises(WriteaheadError) as caught:
        adapter_for(ANSWERS["status 400"]).emit(changed)
    clean(caught.value, caplog)
