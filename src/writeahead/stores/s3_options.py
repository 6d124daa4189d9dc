"""The options of an ``s3://`` URL, whichever client talks to the bucket."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NoReturn

from writeahead.errors import InvalidInput
from writeahead.stores.remote import checked_prefix
from writeahead.stores.urls import checked_endpoint, checked_host, parse_store_url, truth

__all__ = ["S3Location", "S3Options", "parse_s3_url", "s3_location"]

_KMS_KEY = re.compile(r"[A-Za-z0-9:/_-]{1,2048}", re.ASCII)
_STORAGE_CLASS = re.compile(r"[A-Z0-9_]{1,64}", re.ASCII)
# "Categorizing your storage using tags" in AWS's S3 user guide: at most 10, 128 and 256 characters.
_TAG = re.compile(r"([\w +.:/@-]{1,128})=([\w +.:/@=-]{0,256})")
_MAX_TAGS = 10
_MAX_SECONDS = 3600.0

_STYLES = ("auto", "path", "virtual")
_SSE = ("AES256", "aws:kms")


@dataclass(frozen=True, slots=True)
class S3Options:
    """How to reach a bucket, and what to send with each object. No ACL is ever sent.

    Attributes:
        endpoint_url: Where a compatible server listens, ``http(s)://host:port``; by default AWS.
        region: The bucket's region; by default the client's choice.
        profile: The profile of the AWS configuration files to use.
        addressing_style: ``path`` puts the bucket into the path, ``virtual`` into the host's name.
        sse: Server-side encryption: ``AES256`` (SSE-S3) or ``aws:kms`` (SSE-KMS); by default the
            bucket's.
        sse_kms_key_id: The key for ``aws:kms``; by default AWS's own.
        storage_class: E.g. ``STANDARD_IA``; by default the bucket's.
        tags: The tags of each object.
        connect_timeout: Seconds.
        read_timeout: Seconds without a byte of the answer.
        anonymous: Send no credentials. Such a store can only be read.
    """

    endpoint_url: str | None = None
    region: str | None = None
    profile: str | None = None
    addressing_style: str = "auto"
    sse: str | None = None
    sse_kms_key_id: str | None = None
    storage_class: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    connect_timeout: float = 5.0
    read_timeout: float = 20.0
    anonymous: bool = False

    def __post_init__(self) -> None:
        checked_endpoint("s3", self.endpoint_url)
        if self.addressing_style not in _STYLES:
            _refuse(f"addressing_style is one of {', '.join(_STYLES)}")
        if self.sse is not None and self.sse not in _SSE:
            _refuse(f"sse is one of {', '.join(_SSE)}")
        if self.sse_kms_key_id is not None and self.sse != "aws:kms":
            _refuse("sse_kms_key_id needs sse=aws:kms")
        if self.sse_kms_key_id is not None and not _KMS_KEY.fullmatch(self.sse_kms_key_id):
            _refuse("sse_kms_key_id is a KMS key's id, alias or ARN")
        if self.storage_class is not None and not _STORAGE_CLASS.fullmatch(self.storage_class):
            _refuse("storage_class is a name such as STANDARD_IA")
        if self.anonymous and self.profile is not None:
            _refuse("anonymous sends no credentials, so profile has no meaning beside it")
        for name, seconds in (("connect_timeout", self.connect_timeout), ("read_timeout", self.read_timeout)):
            if not 0 < seconds <= _MAX_SECONDS:
                _refuse(f"{name} is a number of seconds, more than 0 and at most {_MAX_SECONDS:.0f}")


@dataclass(frozen=True, slots=True)
class S3Location:
    """A bucket, or the part of it below a prefix, and its options.

    Attributes:
        bucket: The bucket's name.
        prefix: What stands before every key, with its ``/`` if there is anything; at most 124
            bytes.
        options: See `S3Options`.
    """

    bucket: str
    prefix: str = ""
    options: S3Options = field(default_factory=S3Options)

    @property
    def name(self) -> str:
        """``s3://bucket/prefix``, without options."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")


def s3_location(bucket: str, prefix: str = "", options: S3Options | None = None) -> S3Location:
    """A checked location.

    Args:
        bucket: The bucket's name.
        prefix: Without ``/`` at either end; at most 123 bytes.
        options: See `S3Options`.

    Raises:
        InvalidInput: The bucket's name or the prefix can't be one.
    """
    checked_host("s3", bucket)
    return S3Location(bucket, checked_prefix(f"s3://{bucket}", prefix), options or S3Options())


def parse_s3_url(url: str) -> S3Location:
    """Read ``s3://bucket/prefix?option=value&...``.

    Raises:
        InvalidInput: An option is unknown or has a value that it can't have, or the bucket's name
            or the prefix can't be one.
    """
    parts = parse_store_url(url, options=(*S3Options.__dataclass_fields__, "client"))
    given = dict(parts.options)
    given.pop("client", None)  # the registry chose by it
    options: dict[str, Any] = {name: _VALUES.get(name, str)(value) for name, value in given.items()}
    return s3_location(parts.host, parts.path.strip("/"), S3Options(**options))


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0  # refused, with the name of the option


def _tags(text: str) -> dict[str, str]:
    tags: dict[str, str] = {}
    for pair in text.split(","):
        match = _TAG.fullmatch(pair)
        if match is None or match[1] in tags:
            _refuse("tags is key=value,key=value,... with letters, digits, spaces and + . : / @ _ -")
        tags[match[1]] = match[2]
    if len(tags) > _MAX_TAGS:
        _refuse(f"S3 allows at most {_MAX_TAGS} tags")
    return tags


_VALUES: dict[str, Callable[[str], object]] = {
    "connect_timeout": _seconds,
    "read_timeout": _seconds,
    "anonymous": partial(truth, "s3", "anonymous"),
    "tags": _tags,
}


def _refuse(problem: str) -> NoReturn:
    raise InvalidInput(f"store s3://...: {problem}")
