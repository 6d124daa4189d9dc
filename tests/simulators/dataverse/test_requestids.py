"""The ids by which support finds a request, on the wire."""

import re

import httpx

GUID = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
ROW = "c9000000-0000-4000-8000-000000000009"


def test_every_response_of_the_web_api_has_its_own(sim, http):
    sim.faults.add("status", method="GET", status=503, path="teams")
    replies = [
        http.patch(f"tasks({ROW})", json={"subject": "x"}),
        http.get(f"tasks({ROW})"),
        http.get("tasks(00000000-0000-4000-8000-000000000009)"),
        http.get("teams"),
        httpx.get(f"{sim.api_url}WhoAmI"),
        http.post("$batch", content=b"", headers={"Content-Type": "multipart/mixed; boundary=b"}),
    ]
    assert [reply.status_code for reply in replies] == [204, 200, 404, 503, 401, 400]
    ids = [reply.headers["REQ_ID"] for reply in replies]
    assert len(set(ids)) == len(ids)
    for reply, own in zip(replies, ids, strict=True):
        assert re.fullmatch(GUID, own)
        gateway, last = reply.headers["x-ms-service-request-id"].split(", ")
        assert last == own != gateway
    assert [request.request_id for request in sim.requests()] == ids


def test_a_page_of_something_on_the_way_has_none(sim, http):
    sim.faults.add("not_json", method="GET", status=502)
    assert not {"req_id", "x-ms-service-request-id"} & set(http.get("tasks").headers)


def test_a_refused_sign_in_has_entras(sim):
    reply = httpx.post(sim.token_url, data={"grant_type": "client_credentials"})
    content = reply.json()
    assert content["error_codes"] == [1002012]
    assert re.fullmatch(GUID, content["trace_id"])
    assert re.fullmatch(GUID, content["correlation_id"])
