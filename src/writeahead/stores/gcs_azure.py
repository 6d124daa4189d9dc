"""Stores for ``gs://`` and ``az://``: Google Cloud Storage and Azure Blob, through obstore."""

import re
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore

from writeahead.errors import InvalidInput
from writeahead.stores.aws_settings import NO_CREDENTIALS
from writeahead.stores.obstore import ObstoreStore
from writeahead.stores.obstore_clients import NO_RETRIES, Connection, client_options, only_to
from writeahead.stores.remote import checked_prefix
from writeahead.stores.s3_answers import PERMISSIONS
from writeahead.stores.urls import StoreUrl, checked_endpoint, checked_host, parse_store_url, truth

if TYPE_CHECKING:
    from obstore.store import AzureConfig, ClientConfig, GCSConfig

__all__ = ["azure_from_url", "gcs_from_url"]

# S3's words in errors, and what to say of other services.
_NOT_S3 = {
    **{f" ({permission})": "" for permission in PERMISSIONS.values()},
    "set region= to the bucket's region, or correct": "correct",
    "name its CA in AWS_CA_BUNDLE": "have its CA trusted by the system",
}
_GCS = {**_NOT_S3, NO_CREDENTIALS: "no credentials: set GOOGLE_SERVICE_ACCOUNT, or log in by gcloud"}
_AZURE = {
    **_NOT_S3,
    NO_CREDENTIALS: "no credentials: set AZURE_STORAGE_ACCOUNT_KEY, or use a managed identity",
    "bucket": "container",
}
# Where the clients get tokens; a name stands for all hosts below it, too.
_METADATA = ("169.254.169.254", "metadata.google.internal")
_GCS_TOKENS = ("googleapis.com", "accounts.google.com", *_METADATA)
_AZURE_TOKENS = ("microsoftonline.com", "microsoftonline.us", "partner.microsoftonline.cn", *_METADATA)
# Azure's ETags are no digests, and have this form; nothing else proves a put without reading it
# back.
_AZURE_ETAG = re.compile(r"0x[0-9A-F]{12,20}", re.ASCII)


def gcs_from_url(url: str) -> ObstoreStore:
    """Open ``gs://bucket/prefix?endpoint_url=...&storage_class=...&anonymous=true``.

    Credentials are Google's application default credentials, or what ``GOOGLE_SERVICE_ACCOUNT``
    names.

    Raises:
        InvalidInput: An option is unknown, a name can't be one, or the client refuses its settings.
    """
    parts = parse_store_url(url, options=("endpoint_url", "storage_class", "anonymous"))
    name, base = _place(parts)
    anonymous = truth(parts.scheme, "anonymous", parts.options.get("anonymous", "false"))
    endpoint = _endpoint(parts)
    config: GCSConfig = {"skip_signature": anonymous}
    if endpoint:
        config["base_url"] = endpoint
    connect = partial(_gcs, parts.host, config, _network(endpoint, _GCS_TOKENS))
    _require_settings(connect, f"store {name}: the client refuses its settings; see docs/stores.md")
    storage_class = parts.options.get("storage_class")
    return ObstoreStore(connect, name, base, storage_class=storage_class, anonymous=anonymous, words=_GCS)


def azure_from_url(url: str) -> ObstoreStore:
    """Open ``az://container/prefix?account=...&endpoint_url=...&anonymous=true``.

    The account may also be in ``AZURE_STORAGE_ACCOUNT_NAME``; credentials come from the
    environment, a managed identity or a workload identity.

    Raises:
        InvalidInput: An option is unknown, a name can't be one, or the client refuses its settings.
    """
    parts = parse_store_url(url, options=("account", "endpoint_url", "anonymous"))
    name, base = _place(parts)
    anonymous = truth(parts.scheme, "anonymous", parts.options.get("anonymous", "false"))
    endpoint = _endpoint(parts)
    config: AzureConfig = {"skip_signature": anonymous}
    if endpoint:
        config["endpoint"] = endpoint
    if "account" in parts.options:
        config["account_name"] = parts.options["account"]
    connect = partial(_azure, parts.host, config, _network(endpoint, _AZURE_TOKENS))
    _require_settings(
        connect,
        f"store {name}: the client refuses its settings; set account= or AZURE_STORAGE_ACCOUNT_NAME",
    )
    return ObstoreStore(connect, name, base, anonymous=anonymous, proof=_AZURE_ETAG, words=_AZURE)


def _gcs(bucket: str, config: "GCSConfig", network: "ClientConfig") -> Connection:
    client = GCSStore(bucket, config=config, client_options=network, retry_config=NO_RETRIES)
    return Connection(client, config.get("base_url"))


def _azure(container: str, config: "AzureConfig", network: "ClientConfig") -> Connection:
    client = AzureStore(container, config=config, client_options=network, retry_config=NO_RETRIES)
    return Connection(client, config.get("endpoint"))


def _network(endpoint: str | None, tokens: tuple[str, ...]) -> "ClientConfig":
    """The client's options. A server of one's own may redirect anywhere; the service's does not."""
    network = client_options(endpoint)
    if endpoint:
        network.update(only_to(endpoint, *tokens))
    return network


def _require_settings(connect: Callable[[], Connection], problem: str) -> None:
    try:
        connect()
    except BaseError as error:
        raise InvalidInput(problem) from error


def _place(parts: StoreUrl) -> tuple[str, str]:
    """The store's name, and what stands before its keys."""
    place, path = f"{parts.scheme}://{checked_host(parts.scheme, parts.host)}", parts.path.strip("/")
    return f"{place}/{path}".rstrip("/"), checked_prefix(place, path)


def _endpoint(parts: StoreUrl) -> str | None:
    endpoint = checked_endpoint(parts.scheme, parts.options.get("endpoint_url"), path=True)
    return endpoint and endpoint.rstrip("/")
