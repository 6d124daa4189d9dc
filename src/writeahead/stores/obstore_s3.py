"""From an ``s3://...?client=obstore`` URL to a store."""

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from obstore.exceptions import BaseError
from obstore.store import S3Store

from writeahead.errors import AccessDenied, InvalidInput, Unsupported
from writeahead.stores.aws_settings import AwsSettings, Keys, aws_settings, read_ca_bundle
from writeahead.stores.obstore import ObstoreStore
from writeahead.stores.obstore_clients import NO_RETRIES, Connection, client_options, only_to
from writeahead.stores.remote import RequestFailed
from writeahead.stores.s3_options import S3Location, parse_s3_url

if TYPE_CHECKING:
    from obstore.store import S3Config

__all__ = ["from_url"]

_DEFAULT_REGION = "us-east-1"
# Where this client gets credentials by itself: the metadata services of EC2, ECS and EKS.
_METADATA = ("169.254.169.254", "169.254.170.2", "169.254.170.23")
# botocore renews credentials in time; it only has to be asked now and then.
_ASK_AGAIN = timedelta(minutes=5)


def from_url(url: str) -> ObstoreStore:
    """Open ``s3://bucket/prefix?client=obstore&...`` with the options of `S3Options`.

    Credentials, region, endpoint and CA come from where botocore finds them, if it is installed;
    otherwise from the environment's variables, a web identity or the machine's role.

    Raises:
        InvalidInput: See `parse_s3_url`; or there is no such profile.
    """
    location = parse_s3_url(url)
    aws_settings(location.options)
    options = location.options
    return ObstoreStore(
        partial(_connect, location),
        location.name,
        location.prefix,
        storage_class=options.storage_class,
        tags=options.tags,
        anonymous=options.anonymous,
    )


def _connect(location: S3Location) -> Connection:
    options = location.options
    try:
        settings = aws_settings(options)
    except InvalidInput as error:
        # They were right when the store was opened.
        raise RequestFailed(AccessDenied, str(error).removeprefix("store s3://...: ")) from error
    config = _config(location, settings)
    keys = None if options.anonymous else settings.keys
    network = client_options(settings.endpoint_url, options.connect_timeout, options.read_timeout)
    if settings.ca_bundle:
        network["root_certificate"] = read_ca_bundle(settings.ca_bundle)
    region = config["region"]
    server = config.get("endpoint", f"https://s3.{region}.amazonaws.com")
    network.update(only_to(server, f"sts.{region}.amazonaws.com", *_METADATA))
    try:
        client = S3Store(
            location.bucket,
            config=config,
            client_options=network,
            retry_config=NO_RETRIES,
            credential_provider=None if keys is None else partial(_provide, keys),
        )
    except BaseError as error:
        raise RequestFailed(Unsupported, "obstore refuses these settings; see docs/stores.md") from error
    endpoint = settings.endpoint_url
    return Connection(client, endpoint) if keys is None else Connection(client, endpoint, keys)


def _config(location: S3Location, settings: AwsSettings) -> "S3Config":
    options = location.options
    # Said here, so that no variable of the environment says otherwise.
    config: S3Config = {
        "region": settings.region or _DEFAULT_REGION,
        "conditional_put": "etag",
        "disable_bulk_delete": True,
        "disable_tagging": False,
        "unsigned_payload": False,
        "skip_signature": options.anonymous,
        # A bucket with a default retention takes no object without one.
        "checksum_algorithm": "SHA256",
    }
    if options.sse:
        config["server_side_encryption"] = options.sse
    if options.sse_kms_key_id:
        config["sse_kms_key_id"] = options.sse_kms_key_id
    if options.addressing_style != "auto":
        config["virtual_hosted_style_request"] = options.addressing_style == "virtual"
    endpoint = settings.endpoint_url
    if endpoint:
        if options.addressing_style == "virtual":
            # This client wants the bucket to be there already.
            endpoint = endpoint.replace("://", f"://{location.bucket}.", 1)
        config["endpoint"] = endpoint.rstrip("/")
    return config


def _provide(keys: Any) -> Any:
    found: Keys = keys()
    return {**found._asdict(), "expires_at": datetime.now(UTC) + _ASK_AGAIN}
