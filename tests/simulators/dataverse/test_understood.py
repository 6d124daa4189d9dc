"""What changes the meaning of a request is imitated or refused, never left out of account."""

import pytest

from tests.simulators.dataverse.test_batch import change_set, part, read, send
from writeahead.simulators.dataverse import APPLICATION_USER

ROW = "11111111-2222-4333-8444-555555555555"
REQUESTS = [
    ("GET", "tasks"),
    ("GET", f"tasks({ROW})"),
    ("GET", "tasks/$count"),
    ("POST", "tasks"),
    ("PATCH", f"tasks({ROW})"),
    ("DELETE", f"tasks({ROW})"),
    ("GET", "EntityDefinitions"),
    ("GET", "EntityDefinitions(LogicalName='task')/Attributes"),
    ("GET", "WhoAmI"),
    ("GET", "RetrieveVersion"),
    ("GET", f"systemusers({APPLICATION_USER})/Microsoft.Dynamics.CRM.RetrieveUserPrivileges()"),
    ("GET", ""),
    ("POST", "$batch"),
    ("POST", "tasks/Microsoft.Dynamics.CRM.CreateMultiple"),
]


def ask(http, method, path, **headers):
    body = {} if method in ("POST", "PATCH") else None
    return http.request(method, path, json=body, headers=headers)


@pytest.fixture
def row(sim):
    sim.seed("tasks", {"activityid": ROW, "subject": "as it was"})
    return lambda: [(one["subject"], one["versionnumber"]) for one in sim.rows("tasks")]


@pytest.mark.parametrize(
    ("option", "status", "message"),
    [
        ("sql=SELECT+subject+FROM+task", 400, "sql query parameter is not supported."),
        ("utm_source=x", 400, "The query parameter utm_source is not supported"),
        ("$skip=1", 400, "The query parameter $skip is not supported"),
        ("$Select=subject", 400, "The query parameter $Select is not supported"),
        ("$search=x", 400, "The query parameter $search is not supported"),
        ("$apply=aggregate($count as n)", 501, "$apply"),
        ("fetchXml=<fetch/>", 501, "fetchXml"),
        ("@p1=2", 501, "aliases"),
    ],
)
def test_an_option_that_is_not_understood(http, row, option, status, message):
    before = row()
    for method, path in REQUESTS:
        reply = ask(http, method, f"{path}?{option}")
        assert (reply.status_code, message in reply.json()["error"]["message"]) == (status, True), reply.text
    assert row() == before


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", f"tasks({ROW})?$filter=subject eq 'another'"),
        ("DELETE", f"tasks({ROW})?$select=subject"),
        ("PATCH", f"tasks({ROW})?$filter=subject eq 'another'"),
        ("GET", f"tasks({ROW})?$filter=subject eq 'another'"),
        ("GET", f"tasks({ROW})?$top=0"),
        ("POST", "tasks?$count=true"),
        ("GET", "tasks/$count?$top=1"),
        ("GET", "EntityDefinitions?$top=1"),
        ("GET", "EntityDefinitions(LogicalName='task')?$filter=IsActivity eq false"),
    ],
)
def test_an_option_that_means_nothing_there(http, row, method, path):
    before = row()
    assert ask(http, method, path).status_code == 501
    assert row() == before


def test_an_option_twice(http):
    assert http.get("tasks?$select=subject&$select=activityid").status_code == 400


def test_a_tag_changes_nothing(http, row):
    assert ask(http, "PATCH", f"tasks({ROW})?tag=for+plug-ins").status_code == 204
    assert [one["activityid"] for one in http.get("tasks?tag=x").json()["value"]] == [ROW]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CallerObjectId", ROW),
        ("MSCRMCallerID", ROW),
        ("MSCRM.BypassCustomPluginExecution", "true"),
        ("MSCRM.MergeLabels", "true"),
        ("MSCRM.SolutionUniqueName", "Any"),
        ("X-HTTP-Method-Override", "DELETE"),
        ("If-Modified-Since", "Mon, 02 Mar 2026 09:00:00 GMT"),
        ("If-Unmodified-Since", "Mon, 02 Mar 2026 09:00:00 GMT"),
        ("Range", "bytes=0-9"),
        ("Content-Encoding", "gzip"),
        ("OData-Version", "4.01"),
        ("Accept", "application/json; odata.metadata=full"),
        ("Accept", "application/json;IEEE754Compatible=true"),
    ],
)
def test_a_header_that_is_not_imitated(http, row, name, value):
    before = row()
    for method, path in REQUESTS:
        reply = ask(http, method, path, **{name: value})
        assert (reply.status_code, name.lower() in reply.json()["error"]["message"]) == (501, True)
    assert row() == before


@pytest.mark.parametrize(
    ("method", "path", "condition"),
    [
        ("PATCH", f"tasks({ROW})", {"If-None-Match": 'W/"1"'}),
        ("PATCH", f"tasks({ROW})", {"If-Match": 'W/"1", W/"2"'}),
        ("DELETE", f"tasks({ROW})", {"If-None-Match": "*"}),
        ("GET", f"tasks({ROW})", {"If-Match": 'W/"1"'}),
        ("GET", f"tasks({ROW})", {"If-None-Match": "*"}),
        ("POST", "tasks", {"If-Match": "*"}),
        ("POST", "$batch", {"If-Match": "*"}),
    ],
)
def test_a_condition_that_is_not_imitated(http, row, method, path, condition):
    before = row()
    assert ask(http, method, path, **condition).status_code == 501
    assert row() == before


def test_the_headers_that_every_client_sends(http, row):
    headers = {
        "Accept": "application/json",
        "OData-Version": "4.0",
        "OData-MaxVersion": "4.0",
        "If-None-Match": "null",
        "Consistency": "Strong",
        "Prefer": "odata.unheard-of, respond-async",
        "x-ms-client-request-id": ROW,
    }
    for method, path in (("GET", "tasks"), ("PATCH", f"tasks({ROW})"), ("POST", "tasks")):
        assert ask(http, method, path, **headers).is_success


def test_the_parts_of_a_change_set_are_held_to_the_same(http, row):
    before = row()
    for url, headers in ((f"tasks({ROW})?sql=x", {}), (f"tasks({ROW})", {"CallerObjectId": ROW})):
        first = part("PATCH", f"tasks({ROW})", {"subject": "changed"}, 1)
        reply = send(http, change_set(first, part("PATCH", url, {}, 2, **headers)))
        [(status, *_)] = read(reply)
        assert status in (400, 501)
        assert row() == before


def test_a_url_in_a_batch_may_have_spaces(http, row):
    """Microsoft's SDK for Python sends filters so."""
    [(status, _, _, body)] = read(send(http, part("GET", "tasks?$filter=subject eq 'as it was'")))
    assert (status, ROW in body) == (200, True)
    [(status, _, _, body)] = read(send(http, part("GET", "tasks?$filter=subject eq 'another'")))
    assert (status, ROW in body) == (200, False)


def test_preferences_on_two_lines(http, row):
    """ "Count rows using OData" shows it, and RFC 9110, section 5.3, makes one list of them."""
    prefer = [("Prefer", "return=representation"), ("Prefer", "odata.unheard-of")]
    reply = http.request("PATCH", f"tasks({ROW})", json={"subject": "x"}, headers=prefer)
    assert (reply.status_code, reply.json()["subject"]) == (200, "x")


def test_annotations_are_never_not_modified(http, row):
    etag = http.get(f"tasks({ROW})").headers["etag"]
    unchanged = {"If-None-Match": etag}
    assert http.get(f"tasks({ROW})", headers=unchanged).status_code == 304
    annotated = {**unchanged, "Prefer": 'odata.include-annotations="*"'}
    assert http.get(f"tasks({ROW})", headers=annotated).status_code == 200


def test_the_service_document_names_the_tables(http):
    listed = http.get("").json()["value"]
    assert {"name": "tasks", "kind": "EntitySet", "url": "tasks"} in listed


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "tasks/Microsoft.Dynamics.CRM.Unheard"),
        ("POST", f"tasks({ROW})/Microsoft.Dynamics.CRM.Unheard"),
        ("GET", "tasks/Microsoft.Dynamics.CRM.Unheard()"),
        ("POST", "BulkDelete"),
        ("GET", "RetrieveMetadataChanges(Query=@p1)"),
    ],
)
def test_actions_and_functions_that_are_not_imitated(http, method, path):
    assert ask(http, method, path).status_code == 501


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "$metadata", None),
        ("GET", f"tasks({ROW})/subject", None),
        ("PUT", f"tasks({ROW})/subject", {"value": "changed"}),
        ("DELETE", f"tasks({ROW})/subject", None),
        ("PUT", f"tasks({ROW})/ownerid/$ref", {"@odata.id": f"systemusers({APPLICATION_USER})"}),
        ("GET", f"tasks({ROW})/ownerid", None),
        ("GET", f"tasks({ROW})?$expand=ownerid", None),
        ("PATCH", f"tasks({ROW})", {"regardingobjectid_contact_task": {"lastname": "new"}}),
        ("POST", "EntityDefinitions", {"LogicalName": "wa_other"}),
        ("PUT", "EntityDefinitions(LogicalName='task')", {}),
        ("GET", "RelationshipDefinitions", None),
        ("POST", "GrantAccess", {}),
    ],
)
def test_what_is_left_out_says_so(http, row, method, path, body):
    before = row()
    reply = http.request(method, path, json=body)
    assert (reply.status_code, "does not imitate" in reply.json()["error"]["message"]) == (501, True)
    assert row() == before
