"""Tokens from credentials of the Azure SDK: of its own types, and of lookalikes."""

import asyncio
import copy
import logging
import pickle
import traceback
from types import SimpleNamespace

import pytest

from tests.support.scripted_server import refused, reply
from writeahead.adapters.dataverse import (
    ClientCredentials,
    DataverseAdapter,
    TransientDataverseError,
    adapter_from_settings,
)
from writeahead.adapters.dataverse.webapi.credentials import CredentialToken, token_of
from writeahead.errors import Applied, InvalidInput, NotReady, WriteaheadError
from writeahead.testing import ManualClock

URL = "https://planted-org.crm.dynamics.com"
SCOPE = f"{URL}/.default"
NOW = 1_700_000_000


class Credential:
    """Issues the tokens or errors of a script; the last one again and again."""

    def __init__(self, *issues):
        self.issues, self.asked = list(issues), []

    def get_token(self, *scopes, **kwargs):
        self.asked.append((scopes, kwargs))
        issue = self.issues.pop(0) if len(self.issues) > 1 else self.issues[0]
        if isinstance(issue, BaseException):
            raise issue
        return issue


def issued(token="planted-token", lifetime=3600, **more):
    return SimpleNamespace(token=token, expires_on=NOW + lifetime, **more)


@pytest.fixture
def clock():
    return ManualClock()


def source_of(credential, clock, skew=0):
    return CredentialToken(
        credential, URL, monotonic=clock.monotonic, wall=lambda: NOW + skew + clock.elapsed
    )


def test_the_azure_types_themselves(clock):
    credentials = pytest.importorskip("azure.core.credentials")

    class Real(Credential):
        pass

    real = Real(credentials.AccessToken("planted-token", NOW + 3600))
    assert isinstance(real, credentials.TokenCredential)
    assert source_of(real, clock)() == "planted-token"
    assert real.asked == [((SCOPE,), {})]

    class WithInfo:
        def __init__(self):
            self.asked = []

        def get_token_info(self, *scopes, options=None):
            self.asked.append((scopes, options))
            return credentials.AccessTokenInfo("planted-info", NOW + 3600, refresh_on=NOW + 60)

        def close(self):
            raise AssertionError

    informed = WithInfo()
    source = source_of(informed, clock)
    assert source() == "planted-info"
    clock.elapsed = 59.0
    source()
    assert informed.asked == [((SCOPE,), None)]
    clock.elapsed = 60.0
    source()
    assert len(informed.asked) == 2


def test_a_credential_in_the_place_of_a_function(server):
    credential = Credential(issued("planted-token"))
    with DataverseAdapter(server.url, credential, timeout=5, readiness="off") as adapter:
        server.script = [reply(204)]
        adapter._client.patch("tasks", "0f8b3f0e-52c5-5d0c-9a53-5b0b3a1c7d11", {"subject": "s"})
    assert server.requests[0].headers["authorization"] == "Bearer planted-token"
    assert credential.asked == [((f"{server.url}/.default",), {})]


def test_settings_take_a_credential_too(server):
    credential = Credential(issued("planted-token"))
    with adapter_from_settings(url=server.url, token=credential, environ={}, readiness="off") as adapter:
        assert adapter.plan([]) == []
    assert len(credential.asked) == 1


def test_a_function_stays_one():
    def token():
        return "planted-token"

    assert token_of(token, URL) is token
    with pytest.raises(InvalidInput):
        token_of(Credential(issued()), "http://planted.example")


@pytest.mark.parametrize(
    ("lifetime", "kept"),
    [(3600, 300), (400, 300), (330, 297), (100, 90), (10, 9), (0, 0), (-5, 0)],
)
def test_it_is_asked_again_in_time(clock, lifetime, kept):
    credential = Credential(issued("one", lifetime), issued("two", 9999))
    source = source_of(credential, clock)
    assert source() == "one"
    if kept:
        clock.elapsed = kept - 0.001
        assert source() == "one"
    clock.elapsed = kept + 0.001
    assert source() == "two"


@pytest.mark.parametrize("skew", [-86400, -600, 600, 86400])
def test_a_clock_that_is_wrong_costs_a_question_at_most(server, clock, skew):
    """The machine's clock is off by so much, and the authority's time is passed on."""
    credential = Credential(issued("old", 3600), issued("new", 7200))
    source = source_of(credential, clock, skew)
    with DataverseAdapter(server.url, source, timeout=5, readiness="off") as adapter:
        server.script = [reply(204)]
        adapter._client.post("tasks", {"subject": "s"})
        clock.elapsed = 3700.0  # the token has expired, whatever our clock thinks
        server.script = [reply(204)]
        adapter._client.post("tasks", {"subject": "s"})
    assert [request.headers["authorization"] for request in server.requests] == ["Bearer old", "Bearer new"]


def test_a_refused_token_is_asked_for_once_more(server, clock):
    source = source_of(Credential(issued("revoked"), issued("new")), clock)
    with DataverseAdapter(server.url, source, timeout=5, readiness="off") as adapter:
        server.script = [refused(401), reply(204)]
        adapter._client.post("tasks", {"subject": "s"})
    assert [request.headers["authorization"] for request in server.requests] == [
        "Bearer revoked",
        "Bearer new",
    ]


def test_a_credential_that_insists_on_a_refused_token(server, clock):
    with DataverseAdapter(
        server.url, source_of(Credential(issued()), clock), timeout=5, readiness="off"
    ) as adapter:
        server.script = [refused(401)]
        with pytest.raises(NotReady, match="401"):
            adapter._client.post("tasks", {"subject": "s"})
    assert len(server.requests) == 1


class AzureError(Exception):
    pass


class HttpResponseError(AzureError):
    def __init__(self, message, status=None, headers=None):
        super().__init__(message)
        self.status_code = status
        self.response = SimpleNamespace(headers=headers, text="planted-remote-text")


class ClientAuthenticationError(HttpResponseError):
    pass


class CredentialUnavailableError(ClientAuthenticationError):
    pass


class ServiceRequestError(AzureError):
    pass


PLANTED = "planted-remote-text for planted-tenant"
REFUSED = [
    ClientAuthenticationError(PLANTED, 401),
    ClientAuthenticationError(PLANTED, 400),
    ClientAuthenticationError(PLANTED),
    CredentialUnavailableError(PLANTED),
    HttpResponseError(PLANTED, 403),
    ClientAuthenticationError(f"AADSTS7000215: {PLANTED}", 401),
    ClientAuthenticationError(f"AADSTS900330: {PLANTED}", 401),
]
PASSING = [
    (ClientAuthenticationError(PLANTED, 503), None),
    (ClientAuthenticationError(PLANTED, 429, {"Retry-After": "9"}), 9.0),
    (HttpResponseError(PLANTED, 500, {"retry-after": "4"}), 4.0),
    (ClientAuthenticationError(f"Authentication failed: AADSTS90033: A transient error. {PLANTED}"), None),
    (ClientAuthenticationError(f"AADSTS90006: {PLANTED}", 400), None),
    (HttpResponseError(PLANTED, 408, {"Retry-After": "planted"}), None),
    (HttpResponseError(PLANTED), None),
    (ServiceRequestError(PLANTED), None),
    (TimeoutError(PLANTED), None),
    (ValueError(PLANTED), None),
]


def caught_from(source, caplog):
    """What a failing source raises, with nothing of the credential's in it or on the way."""
    caplog.set_level(logging.DEBUG)
    with pytest.raises(WriteaheadError) as caught:
        source()
    error = caught.value
    assert error.__cause__ is None
    assert error.__context__ is None
    assert not getattr(error, "__notes__", [])
    shown = [str(error), repr(error), repr(vars(error)), caplog.text]
    shown += ["".join(traceback.format_exception_only(error))]
    assert "planted" not in " ".join(shown)
    assert "planted" not in str(pickle.loads(pickle.dumps(error)))
    return error


@pytest.mark.parametrize("raised", REFUSED, ids=range(len(REFUSED)))
def test_a_refusal_is_not_ready(clock, caplog, raised):
    error = caught_from(source_of(Credential(raised), clock), caplog)
    assert type(error) is NotReady
    assert type(raised).__name__ in str(error)


@pytest.mark.parametrize(("raised", "wait"), PASSING, ids=range(len(PASSING)))
def test_anything_else_may_pass(clock, caplog, raised, wait):
    source = source_of(Credential(raised, issued("later")), clock)
    error = caught_from(source, caplog)
    assert (type(error), error.applied, error.retry_after) == (TransientDataverseError, Applied.NO, wait)
    assert source() == "later"


TRACE, CORRELATION = "255d1aef-8c98-452f-ac51-23d051240864", "fb3d2015-bc17-4bb9-bb85-30c5cf1aaaa7"
ENTRAS = f"{PLANTED}. Trace ID: {TRACE} Correlation ID: {CORRELATION.upper()} Timestamp: planted"


@pytest.mark.parametrize("raised", [ClientAuthenticationError(ENTRAS, 401), HttpResponseError(ENTRAS, 500)])
def test_the_ids_that_support_asks_for_are_all_that_is_kept_of_a_text(clock, caplog, raised):
    said = str(caught_from(source_of(Credential(raised), clock), caplog))
    assert f"HTTP {raised.status_code}" in said
    assert f", trace_id {TRACE}, correlation_id {CORRELATION}" in said


@pytest.mark.parametrize("text", ["Trace ID: planted", f"Trace ID: {TRACE}0", f"Trace ID:{TRACE}", ""])
def test_what_is_no_id_is_not_kept(clock, caplog, text):
    error = caught_from(source_of(Credential(ClientAuthenticationError(text, 401)), clock), caplog)
    assert "trace_id" not in str(error)


class NoText(ClientAuthenticationError):
    def __str__(self):
        raise ValueError(PLANTED)


def test_an_error_without_a_text(clock, caplog):
    assert type(caught_from(source_of(Credential(NoText("", 401)), clock), caplog)) is NotReady


def test_the_azure_errors_themselves(clock, caplog):
    exceptions = pytest.importorskip("azure.core.exceptions")
    refusal = exceptions.ClientAuthenticationError(message=PLANTED)
    assert type(caught_from(source_of(Credential(refusal), clock), caplog)) is NotReady
    trouble = exceptions.ServiceRequestError(PLANTED)
    assert type(caught_from(source_of(Credential(trouble), clock), caplog)) is TransientDataverseError


@pytest.mark.parametrize(
    "given",
    [
        None,
        "planted-token",
        SimpleNamespace(token="planted-token"),
        SimpleNamespace(token=b"planted-token", expires_on=NOW + 9),
        SimpleNamespace(token="planted-token", expires_on="planted"),
        SimpleNamespace(token="planted-token", expires_on=True),
    ],
    ids=range(6),
)
def test_what_is_no_token(clock, caplog, given):
    assert type(caught_from(source_of(Credential(given), clock), caplog)) is NotReady


def test_a_credential_for_asyncio_is_refused(clock, caplog):
    class Asynchronous:
        async def get_token(self, *scopes, **kwargs):
            await asyncio.sleep(0)

    error = caught_from(source_of(Asynchronous(), clock), caplog)
    assert "synchronous" in str(error)


@pytest.mark.parametrize("raised", [KeyboardInterrupt(), SystemExit()], ids=range(2))
def test_an_interrupt_passes(clock, raised):
    with pytest.raises(type(raised)):
        source_of(Credential(raised), clock)()


def test_a_token_outlasts_an_authority_in_trouble_by_its_margin(clock):
    trouble = ServiceRequestError(PLANTED)
    credential = Credential(issued("one", 1000), trouble, trouble, trouble, issued("two", 9999))
    source = source_of(credential, clock)
    assert source() == "one"
    for now in (300.0, 305.0, 310.0):  # asked at 300 and 310
        clock.elapsed = now
        assert source() == "one"
    assert len(credential.asked) == 3
    clock.elapsed = 1000.0
    with pytest.raises(TransientDataverseError):
        source()
    assert source() == "two"


def test_a_credential_that_is_refused_now_is_not_covered_up(clock):
    source = source_of(Credential(issued("one", 1000), ClientAuthenticationError(PLANTED, 401)), clock)
    source()
    clock.elapsed = 301.0
    with pytest.raises(NotReady):
        source()


def test_tokens_and_secrets_show_nowhere(clock):
    source = source_of(Credential(issued()), clock)
    own = ClientCredentials(
        url=URL, tenant_id="planted-tenant", client_id="planted-id", client_secret="planted-secret"
    )
    source()
    assert "planted" not in f"{source!r} {source} {own!r} {vars(source)['_cached']!r}"
    adapter = DataverseAdapter(URL, source)
    for holder in (source, own):
        for action in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="secrets") as caught:
                action(holder)
            assert "planted" not in str(caught.value)
    for holder in (adapter, adapter._client, adapter._client._endpoint):
        with pytest.raises(TypeError) as caught:
            pickle.dumps(holder)
        assert "planted" not in str(caught.value)
    adapter.close()


def test_what_the_sdk_would_log_stays_out_of_the_logs(clock, caplog):
    caplog.set_level(logging.DEBUG)
    loggers = ["azure.core.pipeline.policies.http_logging_policy", "urllib3.connectionpool", "msal.authority"]

    class Chatty(Credential):
        def get_token(self, *scopes, **kwargs):
            for name in loggers:
                logging.getLogger(name).info("Request URL: https://login.example/planted-tenant/oauth2")
            return super().get_token(*scopes, **kwargs)

    source_of(Chatty(issued()), clock)()
    assert "planted" not in caplog.text
    for name in loggers:
        logging.getLogger(name).info("another library's")
    assert caplog.text.count("another library's") == len(loggers)
