"""From settings and environment variables to an adapter."""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import httpx
from pydantic import BeforeValidator, Field, SecretStr

from writeahead.adapters.dataverse.adapter import DataverseAdapter
from writeahead.adapters.dataverse.mapping.mapping import TableMapping
from writeahead.adapters.dataverse.webapi.auth import DEFAULT_AUTHORITY, ClientCredentials
from writeahead.adapters.dataverse.webapi.credentials import TokenSource
from writeahead.adapters.dataverse.webapi.endpoint import DEFAULT_TIMEOUT
from writeahead.adapters.dataverse.webapi.protection import DEFAULT_LIMITS, ServiceLimits, protection_of
from writeahead.adapters.settings import AdapterSettings, Text, WholeNumber, takes

__all__ = ["DataverseSettings", "adapter_from_settings"]


def _timeout(value: object) -> httpx.Timeout:
    if isinstance(value, httpx.Timeout):
        return value
    seconds = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else 0.0
    if not 0 < seconds < math.inf:
        raise ValueError("not a number of seconds")
    return httpx.Timeout(seconds)


class DataverseSettings(AdapterSettings):
    """The settings of a `DataverseAdapter`, each with a variable, such as ``DATAVERSE_URL``.

    Attributes:
        url: The environment.
        tenant_id: The Entra tenant.
        client_id: The application.
        client_secret: Its secret, which is better kept in the environment.
        authority: Where tokens are issued; by default the public cloud's.
        token: Returns a bearer token, or is a credential of the Azure SDK; then tenant, application
            and secret are not needed. It has no environment variable.
        mapping: The mapping file; by default the one of the package.
        timeout: Seconds for each of four parts of a request: waiting for a connection, connecting,
            sending and receiving; by default 5, 5, 25 and 25.
        max_concurrent: Requests at the same time; by default 52, for each process.
        max_requests: Requests in 5 minutes; by default 5,900, for each process.
        share_limits_in: A folder of this machine, in which all processes that name it keep to the
            two limits together.
        divide_limits_by: Of how many equal parts of the two limits this process uses one: the
            number of processes, or of machines where each has a folder to share; by default 1.
        readiness: ``full``: planning holds every write against the environment's table
            definitions; ``off``: it does not.
        require_approval: Whether the mapping must be approved before anything is written by it.
        service_text: Whether errors repeat the service's own words, which may hold what is in a
            record.
    """

    prefix: ClassVar[str] = "DATAVERSE_"
    code_only: ClassVar[frozenset[str]] = frozenset({"token"})

    url: Text = Field(default="", description="text")
    tenant_id: Text = Field(default="", description="text")
    client_id: Text = Field(default="", description="text")
    client_secret: SecretStr = Field(default=SecretStr(""), description="text")
    authority: Text = Field(default=DEFAULT_AUTHORITY, description="text")
    token: Any = Field(default=None, description="a source of tokens")
    mapping: TableMapping | str | Path | None = Field(default=None, description="the path of a mapping file")
    timeout: Annotated[httpx.Timeout, BeforeValidator(_timeout)] = Field(
        default=DEFAULT_TIMEOUT, description="a number of seconds above 0"
    )
    max_concurrent: WholeNumber = Field(
        default=DEFAULT_LIMITS.concurrent, description="a whole number above 0"
    )
    max_requests: WholeNumber = Field(default=DEFAULT_LIMITS.requests, description="a whole number above 0")
    share_limits_in: Path | None = Field(default=None, description="the path of a folder")
    divide_limits_by: WholeNumber = Field(default=1, description="a whole number above 0")
    readiness: Literal["full", "off"] = Field(default="full", description="full or off")
    require_approval: bool = Field(default=False, description="true or false")
    service_text: bool = Field(default=False, description="true or false")

    def missing(self) -> tuple[str, ...]:
        """Say what is missing for requests, as one line; none if nothing is."""
        if self.token is not None:
            return self.require("url")
        return self.require("url", "tenant_id", "client_id", "client_secret")

    def token_source(self) -> TokenSource | None:
        """Return what gives tokens; None if something is missing for it.

        Raises:
            InvalidInput: A setting can't be used.
        """
        if self.token is not None or self.missing():
            source: TokenSource | None = self.token
            return source
        return ClientCredentials(
            url=self.url,
            tenant_id=self.tenant_id,
            client_id=self.client_id,
            client_secret=self.client_secret.get_secret_value().strip(),
            authority=self.authority,
            timeout=self.timeout,
        )


@takes(DataverseSettings)
def adapter_from_settings(*, environ: Mapping[str, str] = os.environ, **settings: Any) -> DataverseAdapter:
    """Make a `DataverseAdapter`; this is the entry point ``dataverse``.

    Args:
        environ: Where to look for what is not given.
        settings: As the attributes of `DataverseSettings`.

    Returns:
        An adapter. If credentials are missing, its ``plan`` raises `NotReady`, naming each.

    Raises:
        InvalidInput: A setting is unknown or can't be used.
    """
    found = DataverseSettings.read(settings, environ)
    limits = ServiceLimits(found.max_concurrent, found.max_requests).divided_by(found.divide_limits_by)
    return DataverseAdapter(
        found.url or None,
        found.token_source(),
        mapping=found.mapping,
        timeout=found.timeout,
        protection=protection_of(found.url, limits, found.share_limits_in) if found.url else None,
        readiness=found.readiness,
        require_approval=found.require_approval,
        service_text=found.service_text,
        missing=found.missing(),
    )
