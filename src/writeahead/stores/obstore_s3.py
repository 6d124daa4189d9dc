"""From an ``s3://...?client=obstore`` URL to a store."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from obstore.store import S3Store

from writeahead.errors import InvalidInput
from writeahead.stores.obstore import ObstoreStore
from writeahead.stores.obstore_clients import NO_RETRIES, client_options
from writeahead.stores.s3_options import S3Location, parse_s3_url

if TYPE_CHECKING:
    from obstore.store import S3Config, S3CredentialProvider

__all__ = ["from_url"]


def from_url(url: str) -> ObstoreStore:
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
        client_options=client_options(endpoint, options.connect_timeout, options.read_timeout),
        retry_config=NO_RETRIES,
        credential_provider=provider,
    )


def _profile(name: str) -> tuple["S3CredentialProvider", str | None]:
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
