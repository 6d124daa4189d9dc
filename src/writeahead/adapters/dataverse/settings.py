"""From settings and environment variables to an adapter; what is missing is reported when it plans."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import httpx
from pydantic import SecretStr

from writeahead.adapters.dataverse.adapter import DataverseAdapter
from writeahead.adapters.dataverse.mapping.mapping import TableMapping
from writeahead.adapters.dataverse.webapi.auth import DEFAULT_AUTHORITY, ClientCredentials
from writeahead.adapters.dataverse.webapi.credentials import TokenSource
from writeahead.adapters.dataverse.webapi.endpoint import DEFAULT_TIMEOUT
from writeahead.adapters.dataverse.webapi.protection import DEFAULT_LIMITS, ServiceLimits, protection_of
from writeahead.errors import InvalidInput

__all__ = ["adapter_from_settings"]

_WHOLE = re.compile(r"[0-9]{1,9}")


def adapter_from_settings(
    *,
    url: str | None = None,
    tenant_id: str | None = None,
    client_id: str | None = None,
    client_secret: SecretStr | str | None = None,
    authority: str | None = None,
    token: TokenSource | None = None,
    mapping: TableMapping | str | Path | None = None,
    timeout: float | str | httpx.Timeout | None = None,
    max_concurrent: int | str | None = None,
    max_requests: int | str | None = None,
    readiness: str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> DataverseAdapter:
    """Make a `DataverseAdapter`; this is the entry point ``dataverse``.

    Args:
        url: The environment; else ``DATAVERSE_URL``.
        tenant_id: The Entra tenant; else ``DATAVERSE_TENANT_ID``.
        client_id: The application; else ``DATAVERSE_CLIENT_ID``.
        client_secret: Its secret; else ``DATAVERSE_CLIENT_SECRET``, where it is better off.
        authority: Where tokens are issued; else ``DATAVERSE_AUTHORITY``, else the public cloud's.
        token: Returns a bearer token, or is a credential of the Azure SDK; then tenant, application
            and secret are not needed.
        mapping: The mapping file; else ``DATAVERSE_MAPPING``, else the default one.
        timeout: Seconds; else ``DATAVERSE_TIMEOUT``.
        max_concurrent: Requests of this process at the same time; else
            ``DATAVERSE_MAX_CONCURRENT``, else 52.
        max_requests: Requests of this process in 5 minutes; else ``DATAVERSE_MAX_REQUESTS``, else
            5,900.
        readiness: ``full`` or ``off``, as for `DataverseAdapter`; else ``DATAVERSE_READINESS``,
            else full.
        environ: Where to look for what is not given.

    Returns:
        An adapter. If credentials are missing, its ``plan`` raises `NotReady`, naming each.

    Raises:
        InvalidInput: A setting can't be used.
    """
    _require_text(url=url, tenant_id=tenant_id, client_id=client_id, authority=authority, readiness=readiness)
    if not isinstance(mapping, TableMapping | str | Path | None):
        raise InvalidInput("setting mapping must be the path of a mapping file")
    if not isinstance(client_secret, SecretStr | str | None) or not isinstance(environ, Mapping):
        raise InvalidInput(
            "client_secret is not for a settings file: put DATAVERSE_CLIENT_SECRET in the environment"
        )
    secret = client_secret.get_secret_value() if isinstance(client_secret, SecretStr) else client_secret
    credentials = {
        "DATAVERSE_URL": url,
        "DATAVERSE_TENANT_ID": tenant_id,
        "DATAVERSE_CLIENT_ID": client_id,
        "DATAVERSE_CLIENT_SECRET": secret,
    }
    found = {name: (value or environ.get(name) or "").strip() for name, value in credentials.items()}
    needed = ["DATAVERSE_URL"] if token else list(credentials)
    missing = [name for name in needed if not found[name]]
    limit = _timeout(timeout if timeout is not None else environ.get("DATAVERSE_TIMEOUT"))
    limits = ServiceLimits(
        _whole("DATAVERSE_MAX_CONCURRENT", max_concurrent, environ, DEFAULT_LIMITS.concurrent),
        _whole("DATAVERSE_MAX_REQUESTS", max_requests, environ, DEFAULT_LIMITS.requests),
    )
    if token is None and not missing:
        token = ClientCredentials(
            url=found["DATAVERSE_URL"],
            tenant_id=found["DATAVERSE_TENANT_ID"],
            client_id=found["DATAVERSE_CLIENT_ID"],
            client_secret=found["DATAVERSE_CLIENT_SECRET"],
            authority=authority or environ.get("DATAVERSE_AUTHORITY") or DEFAULT_AUTHORITY,
            timeout=limit,
        )
    return DataverseAdapter(
        found["DATAVERSE_URL"] or None,
        token,
        mapping=mapping or environ.get("DATAVERSE_MAPPING") or None,
        timeout=limit,
        protection=protection_of(found["DATAVERSE_URL"], limits) if found["DATAVERSE_URL"] else None,
        readiness=_readiness(readiness or environ.get("DATAVERSE_READINESS") or "full"),
        missing=[f"{', '.join(missing)} not set: put them in the environment"] if missing else (),
    )


def _require_text(**settings: object) -> None:
    for name, value in settings.items():
        if not isinstance(value, str | None):
            raise InvalidInput(f"setting {name} must be text, not {type(value).__name__}")


def _readiness(value: str) -> Literal["full", "off"]:
    match value:
        case "full" | "off":
            return value
    raise InvalidInput("DATAVERSE_READINESS must be full or off")


def _timeout(value: float | str | httpx.Timeout | None) -> httpx.Timeout:
    if value is None or value == "":
        return DEFAULT_TIMEOUT
    if isinstance(value, httpx.Timeout):
        return value
    try:
        seconds = 0.0 if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise InvalidInput("DATAVERSE_TIMEOUT must be a number of seconds above 0")
    return httpx.Timeout(seconds)


def _whole(name: str, given: object, environ: Mapping[str, str], default: int) -> int:
    value = environ.get(name) or default if given is None else given
    number = int(value) if isinstance(value, str) and _WHOLE.fullmatch(value.strip()) else value
    if type(number) is not int or number < 1:
        raise InvalidInput(f"{name} must be a whole number above 0")
    return number
