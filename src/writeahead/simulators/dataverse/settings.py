"""The settings of a simulator."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from writeahead.simulators.dataverse.batch import BatchErrors
from writeahead.simulators.dataverse.paging import MOST_ROWS
from writeahead.simulators.dataverse.protection import ServiceLimits
from writeahead.simulators.dataverse.schema import Schema
from writeahead.simulators.dataverse.tables import DEFAULT_SCHEMA

__all__ = ["Settings"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a simulator behaves, fixed when it is started.

    Args:
        tenant_id: The tenant in the token endpoint, ``/<tenant_id>/oauth2/v2.0/token``.
        client_id: The application that may get tokens there.
        client_secret: Its secret.
        token_lifetime: Seconds until an issued token expires.
        static_tokens: Further bearer tokens that are accepted.
        empty_error_codes: Whether ``error.code`` is always empty, as it often is in reality.
        batch_errors: How a batch is answered in which a request fails.
        limits: When too many requests are refused; None for never.
        plugin_tables: Entity sets whose rows a plug-in writes again after each write of a client.
        duplicate_rules: By entity set, the properties that make two rows duplicates. They count if
            a client sends ``MSCRM.SuppressDuplicateDetection: false``.
        withheld_privileges: What the application may not do, such as ``prvWriteContact``.
        degree_of_parallelism: What ``x-ms-dop-hint`` recommends; None for no such header.
        page_size: The rows of a page at most, as long as a client does not prefer fewer.
        schema: The tables and their columns.
    """

    tenant_id: str = "00000000-0000-4000-8000-00000000000a"
    client_id: str = "00000000-0000-4000-8000-00000000000b"
    client_secret: str = field(default="simulator-secret", repr=False)
    token_lifetime: float = 3600.0
    static_tokens: Collection[str] = field(default=(), repr=False)
    empty_error_codes: bool = False
    batch_errors: BatchErrors = BatchErrors.STATUS
    limits: ServiceLimits | None = None
    plugin_tables: Collection[str] = ()
    duplicate_rules: Mapping[str, Sequence[str]] = field(default_factory=dict)
    withheld_privileges: Collection[str] = ()
    degree_of_parallelism: int | None = None
    page_size: int = MOST_ROWS
    schema: Schema = DEFAULT_SCHEMA
