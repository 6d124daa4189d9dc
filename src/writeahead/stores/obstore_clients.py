"""From a URL to one of obstore's stores: S3, Google Cloud Storage, Azure Blob."""

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, S3Store

from writeahead._extras import requires_extra
from writeahead.errors import InvalidInput
from writeahead.stores.obstore import ObstoreStore
from writeahead.stores.remote import checked_prefix
from writeahead.stores.s3_options import S3Location, parse_s3_url
from writeahead.stores.urls import StoreUrl, parse_store_url

if TYPE_CHECKING:
    from obstore.store import (
        AzureConfig,
        ClientConfig,
        GCSConfig,
        RetryConfig,
        S3Config,
        S3CredentialProvider,
    )

__all__ = ["azure_from_url", "gcs_from_url", "s3_from_url"]

# Seconds.
_CONNECT_TIMEOUT, _READ_TIMEOUT, _REQUEST_LIMIT = 5.0, 20.0, 60.0
_NO_RETRIES: "RetryConfig" = {"max_retries": 0, "retry_timeout": timedelta(0)}

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]", re.ASCII)
_ENDPOINT = re.compile(r"https?://[^@?#]+", re.ASCII)


def s3_from_url(url: str) -> ObstoreStore:
    """Open ``s3://bucket/prefix?client=obstore&...`` with the options of `S3Options`.

    Credentials come from the environment, a web identity or the instance's role; with ``profile``,
    from botocore, which then must be installed.

    Raises:
        InvalidInput: See `parse_s3_url`.
    """
    location = parse_s3_url(url)
    options = location.options
    return ObstoreStore(
        _s3_client(location),
        location.name,
        location.prefix,
        storage_class=options.storage_class,
        tags=options.tags,
        anonymous=options.anonymous,
    )


def _s3_client(location: S3Location) -> S3Store:
    options = location.options
    # Said here, so that no variable of the environment says otherwise.
    config: S3Config = {
        "conditional_put": "etag",
        "disable_bulk_delete": True,
        "disable_tagging": False,
        "unsigned_payload": False,
        "skip_signature": options.anonymous,
    }
    provider, region = _profile(options.profile) if options.profile else (None, None)
    if options.region or region:
        config["region"] = options.region or str(region)
    if options.sse:
        config["server_side_encryption"] = options.sse
    if options.sse_kms_key_id:
        config["sse_kms_key_id"] = options.sse_kms_key_id
    if options.addressing_style != "auto":
        config["virtual_hosted_style_request"] = options.addressing_style == "virtual"
    endpoint = options.endpoint_url
    if endpoint:
        if options.addressing_style == "virtual":
            # This client wants the bucket to be there already.
            endpoint = endpoint.replace("://", f"://{location.bucket}.", 1)
        config["endpoint"] = endpoint.rstrip("/")
    return S3Store(
        location.bucket,
        config=config,
        client_options=_client_options(endpoint, options.connect_timeout, options.read_timeout),
        retry_config=_NO_RETRIES,
        credential_provider=provider,
    )


def _profile(name: str) -> tuple["S3CredentialProvider", str | None]:
    with requires_extra("store s3://...: profile"):
        from botocore.exceptions import ProfileNotFound
        from botocore.session import Session

    session = Session(profile=name)
    try:
        credentials, region = session.get_credentials(), session.get_config_variable("region")
    except ProfileNotFound as error:
        raise InvalidInput(
            "store s3://...: the profile is not in the AWS configuration files; check its name"
        ) from error
    if credentials is None:
        raise InvalidInput("store s3://...: the profile has no credentials")

    def provide() -> Any:
        frozen = credentials.get_frozen_credentials()
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            # botocore renews them in time; it only has to be asked now and then.
            "expires_at": datetime.now(UTC) + timedelta(minutes=5),
        }

    return provide, region


def gcs_from_url(url: str) -> ObstoreStore:
    """Open ``gs://bucket/prefix?endpoint_url=...&storage_class=...&anonymous=true``.

    Credentials are Google's application default credentials, or what ``GOOGLE_SERVICE_ACCOUNT``
    names.

    Raises:
        InvalidInput: An option is unknown, a name can't be one, or the client refuses its settings.
    """
    parts = parse_store_url(url, options=("endpoint_url", "storage_class", "anonymous"))
    name, base = _place(parts)
    anonymous = _anonymous(parts)
    endpoint = _endpoint(parts)
    config: GCSConfig = {"skip_signature": anonymous}
    if endpoint:
        config["base_url"] = endpoint
    try:
        client = GCSStore(
            parts.host,
            config=config,
            client_options=_client_options(endpoint),
            retry_config=_NO_RETRIES,
        )
    except BaseError as error:
        raise InvalidInput(f"store {name}: the client refuses its settings; see docs/stores.md") from error
    return ObstoreStore(
        client, name, base, storage_class=parts.options.get("storage_class"), anonymous=anonymous
    )


def azure_from_url(url: str) -> ObstoreStore:
    """Open ``az://container/prefix?account=...&endpoint_url=...&anonymous=true``.

    The account may also be in ``AZURE_STORAGE_ACCOUNT_NAME``; credentials come from the
    environment, a managed identity or a workload identity.

    Raises:
        InvalidInput: An option is unknown, a name can't be one, or the client refuses its settings.
    """
    parts = parse_store_url(url, options=("account", "endpoint_url", "anonymous"))
    name, base = _place(parts)
    anonymous = _anonymous(parts)
    endpoint = _endpoint(parts)
    config: AzureConfig = {"skip_signature": anonymous}
    if endpoint:
        config["endpoint"] = endpoint
    if "account" in parts.options:
        config["account_name"] = parts.options["account"]
    try:
        client = AzureStore(
            parts.host,
            config=config,
            client_options=_client_options(endpoint),
            retry_config=_NO_RETRIES,
        )
    except BaseError as error:
        raise InvalidInput(
            f"store {name}: the client refuses its settings; set account= or AZURE_STORAGE_ACCOUNT_NAME"
        ) from error
    return ObstoreStore(client, name, base, anonymous=anonymous)


def _place(parts: StoreUrl) -> tuple[str, str]:
    """The store's name, and what stands before its keys."""
    if not _NAME.fullmatch(parts.host):
        raise InvalidInput(f"store {parts.scheme}://...: give a name, {parts.scheme}://name/prefix")
    place, path = f"{parts.scheme}://{parts.host}", parts.path.strip("/")
    return f"{place}/{path}".rstrip("/"), checked_prefix(place, path)


def _anonymous(parts: StoreUrl) -> bool:
    text = parts.options.get("anonymous", "false")
    if text not in ("true", "false"):
        raise InvalidInput(f"store {parts.scheme}://...: anonymous is true or false")
    return text == "true"


def _endpoint(parts: StoreUrl) -> str | None:
    endpoint = parts.options.get("endpoint_url")
    if endpoint is not None and not _ENDPOINT.fullmatch(endpoint):
        raise InvalidInput(f"store {parts.scheme}://...: endpoint_url is http(s)://host:port/path")
    return endpoint and endpoint.rstrip("/")


def _client_options(
    endpoint: str | None, connect_timeout: float = _CONNECT_TIMEOUT, read_timeout: float = _READ_TIMEOUT
) -> "ClientConfig":
    return {
        "allow_http": bool(endpoint and endpoint.startswith("http://")),
        "connect_timeout": timedelta(seconds=connect_timeout),
        "read_timeout": timedelta(seconds=read_timeout),
        "timeout": timedelta(seconds=max(_REQUEST_LIMIT, read_timeout)),
    }
