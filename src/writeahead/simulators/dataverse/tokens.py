"""Entra ID's token endpoint for client credentials, and the check of a request's bearer token.

Source: "Microsoft identity platform and the OAuth 2.0 client credentials flow"
(learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow) and its page of
AADSTS codes. Tokens are signed rather than stored, so they stay valid after a restart.
"""

import hashlib
import hmac
import re
import secrets
import time
import urllib.parse
import uuid
from collections.abc import Collection

from writeahead.simulators.dataverse.messages import ApiResponse, json_response

__all__ = ["TokenIssuer", "login_error"]

# What passes by itself: ``temporarily_unavailable`` in the page of AADSTS codes, which tells a
# client to retry.
_PASSING = {"AADSTS90006", "AADSTS90012", "AADSTS90024", "AADSTS90033", "AADSTS90090", "AADSTS90091"}


class TokenIssuer:
    """Issues tokens, and checks them.

    Args:
        key: The key that signs tokens.
        tenant_id: The only tenant.
        client_id: The only client.
        client_secret: Its secret.
        lifetime: Seconds until a token expires.
        static_tokens: Further tokens that are accepted; they never expire.
    """

    def __init__(
        self,
        *,
        key: str,
        tenant_id: str,
        client_id: str,
        client_secret: str,
        lifetime: float,
        static_tokens: Collection[str],
    ) -> None:
        self._key = key.encode()
        self._tenant_id = tenant_id
        self._client_id = client_id
        self._client_secret = client_secret
        self._lifetime = lifetime
        self._static_tokens = static_tokens

    def issue(self) -> str:
        """Return a new token."""
        text = f"{time.time() + self._lifetime:.3f}~{secrets.token_hex(16)}"
        return f"{text}~{self._signature(text)}"

    def accepts(self, authorization: str | None) -> bool:
        """Return whether an Authorization header holds a valid token."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token.isascii():
            return False
        if any(hmac.compare_digest(token, static) for static in self._static_tokens):
            return True
        text, _, signature = token.rpartition("~")
        if not hmac.compare_digest(signature, self._signature(text)):
            return False
        return time.time() < float(text.partition("~")[0])

    def answer(self, method: str, tenant: str, body: bytes) -> ApiResponse:
        """Answer a request for a token."""
        if method != "POST":
            return _refused(405, "invalid_request", "AADSTS900561: The endpoint only accepts POST requests.")
        form = dict(urllib.parse.parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
        refused = self._refusal(tenant, form)
        if refused is not None:
            return refused
        seconds = int(self._lifetime)
        return json_response(
            200,
            {
                "token_type": "Bearer",
                "expires_in": seconds,
                "ext_expires_in": seconds,
                "access_token": self.issue(),
            },
            _TOKEN_HEADERS,
        )

    def _refusal(self, tenant: str, form: dict[str, str]) -> ApiResponse | None:
        if tenant != self._tenant_id:
            return _refused(400, "invalid_request", "AADSTS90002: Tenant not found.")
        if form.get("grant_type") != "client_credentials":
            return _refused(
                400, "unsupported_grant_type", "AADSTS70003: The app requested an unsupported grant type."
            )
        if not form.get("scope", "").endswith("/.default"):
            return _refused(400, "invalid_scope", "AADSTS1002012: The provided value for scope is not valid.")
        if form.get("client_id") != self._client_id:
            return _refused(
                400, "unauthorized_client", "AADSTS700016: Application was not found in the directory."
            )
        # Bytes, because compare_digest takes ASCII text only.
        if not hmac.compare_digest(form.get("client_secret", "").encode(), self._client_secret.encode()):
            return _refused(401, "invalid_client", "AADSTS7000215: Invalid client secret provided.")
        return None

    def _signature(self, text: str) -> str:
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()


def login_error(status: int, code: str) -> ApiResponse:
    """The endpoint's answer with one of Entra ID's codes, such as ``AADSTS90033``."""
    if code in _PASSING:
        return _refused(
            status, "temporarily_unavailable", f"{code}: A transient error has occurred. Please try again."
        )
    return _refused(status, "invalid_request", f"{code}: The request is refused.")


_TOKEN_HEADERS = {"Content-Type": "application/json; charset=utf-8", "Cache-Control": "no-store"}


def _refused(status: int, error: str, description: str) -> ApiResponse:
    # The fields of an error of the page above; support asks for the last two.
    content = {
        "error": error,
        "error_description": description,
        "error_codes": [int(number) for number in re.findall(r"^AADSTS([0-9]+)", description)],
        "trace_id": str(uuid.uuid4()),
        "correlation_id": str(uuid.uuid4()),
    }
    return json_response(status, content, _TOKEN_HEADERS)
