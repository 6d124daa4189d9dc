"""The token endpoint, and which tokens are accepted."""

import httpx
import pytest

from writeahead.simulators.dataverse import Settings, Simulator

SETTINGS = Settings(tenant_id="tenant", client_id="client", client_secret="s3cret", token_lifetime=600)
FORM = {
    "grant_type": "client_credentials",
    "client_id": "client",
    "client_secret": "s3cret",
    "scope": "https://org/.default",
}


@pytest.fixture
def guarded(tmp_path):
    with Simulator(tmp_path / "crm.sqlite", settings=SETTINGS) as sim:
        yield sim


def who_am_i(sim, authorization):
    headers = {} if authorization is None else {"Authorization": authorization}
    return httpx.get(f"{sim.api_url}WhoAmI", headers=headers)


def test_a_token_is_issued_and_accepted(guarded):
    reply = httpx.post(guarded.token_url, data=FORM)
    assert reply.status_code == 200
    assert (reply.json()["token_type"], reply.json()["expires_in"]) == ("Bearer", 600)
    accepted = who_am_i(guarded, f"Bearer {reply.json()['access_token']}")
    assert set(accepted.json()) == {"@odata.context", "UserId", "BusinessUnitId", "OrganizationId"}


@pytest.mark.parametrize(
    ("changes", "status", "error", "code"),
    [
        ({"client_secret": "wrong"}, 401, "invalid_client", 7000215),
        ({"client_secret": "falsch-ü"}, 401, "invalid_client", 7000215),
        ({"client_secret": None}, 401, "invalid_client", 7000215),
        ({"client_id": "other"}, 400, "unauthorized_client", 700016),
        ({"grant_type": "password"}, 400, "unsupported_grant_type", 70003),
        ({"scope": "https://org/user_impersonation"}, 400, "invalid_scope", 1002012),
    ],
)
def test_refused(guarded, changes, status, error, code):
    form = {name: value for name, value in {**FORM, **changes}.items() if value is not None}
    reply = httpx.post(guarded.token_url, data=form)
    assert (reply.status_code, reply.json()["error"]) == (status, error)
    assert reply.json()["error_codes"] == [code]
    assert reply.json()["error_description"].startswith(f"AADSTS{code}: ")
    assert "s3cret" not in reply.text


def test_unknown_tenant_and_wrong_method(guarded):
    assert httpx.post(f"{guarded.url}/other/oauth2/v2.0/token", data=FORM).status_code == 400
    assert httpx.get(guarded.token_url).status_code == 405


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer x", "Bearer ~~", "Basic Y2xpZW50OnMzY3JldA==", "Bearer 9e99~a~b"],
)
def test_no_good_token(guarded, authorization):
    reply = who_am_i(guarded, authorization)
    assert (reply.status_code, reply.content) == (401, b"")
    assert reply.headers["WWW-Authenticate"].startswith("Bearer")


def test_altered_token(guarded):
    expires, rest = guarded.issue_token().split("~", 1)
    assert who_am_i(guarded, f"Bearer {expires}~{rest}").status_code == 200
    assert who_am_i(guarded, f"Bearer {float(expires) + 1:.3f}~{rest}").status_code == 401


def test_expired_token(tmp_path):
    with Simulator(tmp_path / "crm.sqlite", settings=Settings(token_lifetime=-1)) as sim:
        assert who_am_i(sim, f"Bearer {sim.issue_token()}").status_code == 401


def test_a_token_outlives_a_restart_and_is_good_nowhere_else(guarded, tmp_path):
    token = guarded.issue_token()
    guarded.stop()
    guarded.start()
    assert who_am_i(guarded, f"Bearer {token}").status_code == 200
    with Simulator(tmp_path / "other.sqlite", settings=SETTINGS) as other:
        assert who_am_i(other, f"Bearer {token}").status_code == 401


def test_static_tokens(tmp_path):
    settings = Settings(static_tokens=["given"])
    with Simulator(tmp_path / "crm.sqlite", settings=settings) as sim:
        assert who_am_i(sim, "Bearer given").status_code == 200
        assert who_am_i(sim, "bearer given").status_code == 200
        assert who_am_i(sim, "Bearer other").status_code == 401


def test_no_secret_is_kept(guarded, tmp_path):
    """Neither the client's secret nor a token is in the database, its WAL or a repr."""
    token = httpx.post(guarded.token_url, data=FORM).json()["access_token"]
    httpx.post(f"{guarded.api_url}tasks", json={"subject": "x"}, headers={"Authorization": f"Bearer {token}"})
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"oauth2" in kept
    assert b"subject" in kept
    assert b"s3cret" not in kept
    assert token.encode() not in kept
    assert "s3cret" not in repr(SETTINGS)


@pytest.mark.parametrize(
    ("code", "error"), [("AADSTS90033", "temporarily_unavailable"), ("AADSTS700016", "invalid_request")]
)
def test_a_fault_with_a_code_of_entra_ids_answers_as_the_endpoint_does(guarded, code, error):
    guarded.faults.add("status", path="/*/oauth2/v2.0/token", status=400, code=code, retry_after=2)
    reply = httpx.post(guarded.token_url, data=FORM)
    assert (reply.status_code, reply.json()["error"], reply.headers["Retry-After"]) == (400, error, "2")
    assert reply.json()["error_description"].startswith(f"{code}: ")
    assert httpx.post(guarded.token_url, data=FORM).status_code == 200
