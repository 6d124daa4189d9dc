"""AWS environment variables and configuration files, for a client that is not botocore's.

With botocore installed it is asked, so that obstore finds what s3fs finds. Without it the variables
are read that both clients know.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from writeahead.errors import AccessDenied, InvalidInput, Unavailable
from writeahead.stores.client_logs import quietly
from writeahead.stores.remote import RequestFailed
from writeahead.stores.s3_options import S3Options

__all__ = ["NO_CREDENTIALS", "AwsSettings", "Keys", "aws_settings", "credentials_failure", "read_ca_bundle"]

NO_CREDENTIALS = "no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give a profile"


class Keys(NamedTuple):
    """Credentials of one moment."""

    access_key_id: str
    secret_access_key: str
    token: str | None


@dataclass(frozen=True)
class AwsSettings:
    """How to reach S3.

    Attributes:
        endpoint_url: The server; None for AWS's own.
        region: The bucket's; None if nothing says it.
        ca_bundle: A file of certificates to trust besides the system's.
        keys: Gives the credentials of this moment, renewed where that is due. None where only the
            client can find them: a web identity, or the role of a machine.
    """

    endpoint_url: str | None
    region: str | None
    ca_bundle: str | None
    keys: Callable[[], Keys] | None


def aws_settings(options: S3Options) -> AwsSettings:
    """Return the settings for these options. No credentials are loaded yet.

    Raises:
        InvalidInput: There is no such profile, or only botocore could read it.
    """
    try:
        from botocore.session import Session
    except ModuleNotFoundError:
        return _of_variables(options)
    return _of_botocore(options, Session)


def read_ca_bundle(path: str) -> bytes:
    """Return the certificates of a file.

    Raises:
        RequestFailed: It can't be read.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise RequestFailed(
            Unavailable, f"the CA file can't be read ({type(error).__name__}): check AWS_CA_BUNDLE"
        ) from error


def credentials_failure(error: BaseException) -> RequestFailed:
    """Classify what came out of looking for credentials. Nothing was sent to the store."""
    what = type(error).__name__
    if "SSO" in what or "Login" in what or what == "TokenRetrievalError":
        return RequestFailed(
            AccessDenied,
            f"not logged in, or the login has expired ({what}): run 'aws sso login' or 'aws login', or set "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        )
    if what == "ProfileNotFound":
        return RequestFailed(
            AccessDenied, "the profile is not in the AWS configuration files; check its name"
        )
    if what in ("NoCredentialsError", "PartialCredentialsError"):
        return RequestFailed(AccessDenied, NO_CREDENTIALS)
    call = getattr(error, "operation_name", None)
    if call is not None:
        return RequestFailed(
            AccessDenied,
            f"the credentials were refused when {call} was to renew them; check the role, the token and "
            "their permissions",
        )
    return RequestFailed(
        AccessDenied,
        f"the credentials could not be loaded ({what}): set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
        "correct the profile",
    )


def _of_variables(options: S3Options) -> AwsSettings:
    if options.profile or (os.environ.get("AWS_PROFILE") and not _static_keys()):
        raise InvalidInput(
            'store s3://...: profile: botocore is not installed; run: python -m pip install "writeahead[s3]"'
        )
    ignored = os.environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true"
    endpoints = () if ignored else ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    return AwsSettings(
        options.endpoint_url or _first(*endpoints),
        options.region or _first("AWS_REGION", "AWS_DEFAULT_REGION"),
        _first("AWS_CA_BUNDLE"),
        None if _only_the_client_knows() else _keys_of_variables,
    )


def _first(*names: str) -> str | None:
    return next((value for name in names if (value := os.environ.get(name))), None)


def _static_keys() -> bool:
    return bool(os.environ.get("AWS_ACCESS_KEY_ID"))


def _only_the_client_knows() -> bool:
    if _static_keys():
        return False
    found = _first(
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    )
    return bool(found) or os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() != "true"


def _keys_of_variables() -> Keys:
    access, secret = os.environ.get("AWS_ACCESS_KEY_ID"), os.environ.get("AWS_SECRET_ACCESS_KEY")
    if not access or not secret:
        raise RequestFailed(AccessDenied, NO_CREDENTIALS)
    return Keys(access, secret, _first("AWS_SESSION_TOKEN"))


def _of_botocore(options: S3Options, make_session: Callable[..., Any]) -> AwsSettings:
    from botocore.configprovider import ConfiguredEndpointProvider
    from botocore.exceptions import BotoCoreError

    try:
        session = make_session(profile=options.profile)
        region = options.region or _first("AWS_REGION") or session.get_config_variable("region")
        endpoint = options.endpoint_url
        if endpoint is None and not session.get_config_variable("ignore_configured_endpoint_urls"):
            endpoint = ConfiguredEndpointProvider(
                full_config=session.full_config, scoped_config=session.get_scoped_config(), client_name="s3"
            ).provide()
        ca_bundle = session.get_config_variable("ca_bundle")
    except BotoCoreError as error:
        raise InvalidInput(f"store s3://...: {credentials_failure(error).detail}") from error

    def keys() -> Keys:
        try:
            with quietly():
                found = session.get_credentials()
                frozen = found and found.get_frozen_credentials()
        except Exception as error:
            raise credentials_failure(error) from error
        if frozen is None:
            raise RequestFailed(AccessDenied, NO_CREDENTIALS)
        return Keys(frozen.access_key, frozen.secret_key, frozen.token)

    return AwsSettings(endpoint, region, ca_bundle, keys)
