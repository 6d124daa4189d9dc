"""The functions that tell of the service itself, and the header that recommends something."""

import pytest

from tests.simulators.dataverse.test_batch import running


def test_the_version_is_always_the_same(sim, http):
    told = http.get("RetrieveVersion").json()
    assert told["Version"].startswith("9.2.")
    assert told["@odata.context"].endswith("$metadata#Microsoft.Dynamics.CRM.RetrieveVersionResponse")
    sim.stop()
    sim.start()
    assert http.get("RetrieveVersion").json() == told
    assert http.post("RetrieveVersion", json={}).status_code == 404


@pytest.mark.parametrize("recommended", [None, 4])
def test_the_recommended_parallelism_comes_with_every_answer(tmp_path, recommended):
    with running(tmp_path, degree_of_parallelism=recommended) as (_, http):
        for path, status in (("WhoAmI", 200), ("tasks", 200), ("nosuch", 404)):
            reply = http.get(path)
            assert reply.status_code == status
            assert reply.headers.get("x-ms-dop-hint") == (None if recommended is None else "4")
