"""A store in an S3 bucket, AWS's or a compatible one, through s3fs's call layer.

s3fs's file functions are not used: they cache listings, cost extra requests, and can't tell our own write
from somebody else's. Its call layer sends one S3 request per call; every retry of s3fs, botocore and aiohttp
is off, and `_ATTEMPTS` is the only retry there is.
"""

import asyncio
import base64
import contextlib
import hashlib
import os
import re
import weakref
from collections.abc import Callable, Iterator
from datetime import UTC
from http import HTTPStatus
from typing import Any, TypeVar

import aiohttp
from aiobotocore.httpsession import AIOHTTPSession
from fsspec.asyn import get_loop, sync
from s3fs import S3FileSystem
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential, wait_random

from writeahead.errors import AlreadyExists, InvalidInput, OutcomeUnknown, Unavailable, Unsupported
from writeahead.stores.base import MAX_KEY_BYTES, ArtifactStore, ObjectInfo, StoredObject
from writeahead.stores.s3_errors import CLIENT_ERRORS, Failure, failure_of
from writeahead.stores.urls import parse_store_url

__all__ = ["S3Store"]

# Seconds.
_ATTEMPTS = 4
_WAIT_INITIAL = 0.1
_WAIT_MAX = 2.0
_CONNECT_TIMEOUT = 5.0
_READ_TIMEOUT = 20.0
# For one request in all, so that a server that sends a byte now and then can't hold us for ever.
_REQUEST_LIMIT = 60.0

_OPTIONS = ("endpoint_url", "profile", "region")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]", re.ASCII)
_PREFIX_SEGMENT = re.compile(r"[\w!'()*+,.:=@-]+")
_KEY = re.compile(r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*", re.ASCII)
# An S3 key has at most 1024 bytes: what our own keys leave of that.
_MAX_PREFIX_BYTES = 1024 - MAX_KEY_BYTES - 1

_T = TypeVar("_T")


class S3Store(ArtifactStore):
    """Objects in a bucket, below a prefix. The bucket must exist; credentials are found by botocore.

    One put is one PUT, one get one GET, one head one HEAD, one delete one DELETE, and a listing one request
    for each 1000 keys. Only a create that the server refuses costs a GET more, to see what holds the key.

    Args:
        bucket: The bucket's name.
        prefix: What stands before every key, without ``/`` at either end; at most 123 bytes.
        endpoint_url: Where a compatible server listens; by default botocore's choice, which is AWS.
        region: The bucket's region; by default botocore's choice.
        profile: The profile of the AWS configuration files to use.

    Raises:
        InvalidInput: The bucket's name or the prefix can't be one.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        endpoint_url: str | None = None,
        region: str | None = None,
        profile: str | None = None,
    ) -> None:
        if not _BUCKET.fullmatch(bucket):
            raise InvalidInput("store s3://...: give a bucket's name, s3://bucket/prefix")
        parts = prefix.split("/") if prefix else []
        if any(part in (".", "..") or not _PREFIX_SEGMENT.fullmatch(part) for part in parts):
            raise InvalidInput(f"store s3://{bucket}/...: the prefix has an empty, '.', '..' or odd segment")
        if len(prefix.encode()) > _MAX_PREFIX_BYTES:
            raise InvalidInput(f"store s3://{bucket}/...: the prefix has more than {_MAX_PREFIX_BYTES} bytes")
        self._bucket = bucket
        self._base = f"{prefix}/" if prefix else ""
        self._name = f"s3://{bucket}/{prefix}".rstrip("/")
        self._endpoint_url, self._region, self._profile = endpoint_url, region, profile
        # By process: no client outlives a fork. A child keeps its parent's, so as not to tear it down.
        self._clients: dict[int, S3FileSystem] = {}

    @property
    def name(self) -> str:
        """``s3://bucket/prefix``, without options."""
        return self._name

    def _put(self, key: str, data: bytes, *, if_absent: bool) -> ObjectInfo:
        # The server checks the body against it. Every server knows this digest; the newer ones, not every.
        digest = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
        condition = {"IfNoneMatch": "*"} if if_absent else {}

        def attempt() -> ObjectInfo:
            try:
                response = self._send("put_object", key, Body=data, ContentMD5=digest, **condition)
            except Failure as failure:
                if if_absent and failure.status == HTTPStatus.PRECONDITION_FAILED:
                    return self._settle(key, data)
                raise
            return _info(key, len(data), response)

        return self._retried("put", key, attempt, writes=True)

    def _settle(self, key: str, data: bytes) -> ObjectInfo:
        """The info of the object that a create was refused for, if it holds exactly ``data``.

        It does so where an earlier attempt of this very create was applied and its reply lost.
        """
        try:
            held = self._read(key)
        except Failure as failure:
            if failure.absent:
                raise Failure(Unavailable, "others keep creating and deleting it", retry=True) from failure
            detail = f"the key is taken, and reading it back failed: {failure.detail}"
            raise Failure(failure.error, detail, retry=failure.retry, unknown=True) from failure
        if held.data != data:
            raise AlreadyExists(self.name, "put", key, "the key holds other bytes")
        return held.info

    def _get(self, key: str) -> StoredObject:
        return self._retried("get", key, lambda: self._read(key))

    def _read(self, key: str) -> StoredObject:
        response = self._send("get_object", key)
        data = response["Body"]
        return StoredObject(data, _info(key, len(data), response))

    def _head(self, key: str) -> ObjectInfo | None:
        def attempt() -> ObjectInfo | None:
            try:
                response = self._send("head_object", key)
            except Failure as failure:
                if failure.absent:
                    return None
                raise
            return _info(key, response["ContentLength"], response)

        return self._retried("head", key, attempt)

    def _delete(self, key: str) -> None:
        def attempt() -> None:
            try:
                self._send("delete_object", key)
            except Failure as failure:
                # S3 itself says 204, some compatible servers 404.
                if not failure.absent:
                    raise

        self._retried("delete", key, attempt, writes=True)

    def _list(self, prefix: str, start_after: str | None) -> Iterator[ObjectInfo]:
        after = start_after or ""
        request: dict[str, Any] = {"Prefix": self._base + prefix}
        if start_after:
            request["StartAfter"] = self._base + start_after
        while True:
            page = self._retried("list", prefix, lambda: self._send("list_objects_v2", None, **request))
            for item in page.get("Contents", ()):
                key = item["Key"].removeprefix(self._base)
                # Others may keep objects here whose names are no keys of ours, a console's "folder/" e.g.
                if key > after and _KEY.fullmatch(key):
                    yield _info(key, item["Size"], item)
            if not page.get("IsTruncated"):
                return
            request["ContinuationToken"] = page["NextContinuationToken"]

    def _retried(self, verb: str, key: str, attempt: Callable[[], _T], *, writes: bool = False) -> _T:
        """Run one verb: the only retry loop there is. Every `Failure` ends here as an error of ours."""
        unknown = False

        def again(error: BaseException) -> bool:
            nonlocal unknown
            if not isinstance(error, Failure):
                return False
            unknown = unknown or (writes and error.unknown)
            return error.retry

        retrying = Retrying(
            stop=stop_after_attempt(_ATTEMPTS),
            wait=wait_exponential(_WAIT_INITIAL, _WAIT_MAX) + wait_random(0, _WAIT_INITIAL),
            retry=retry_if_exception(again),
            reraise=True,
        )
        try:
            return retrying(attempt)
        except Failure as failure:
            if unknown:
                detail = f"it may or may not have happened; at last: {failure.detail}"
                raise OutcomeUnknown(self.name, verb, key, detail) from failure
            raise failure.error(self.name, verb, key, failure.detail) from failure

    def _send(self, method: str, key: str | None, **request: Any) -> dict[str, Any]:
        """Send one S3 request, once.

        Raises:
            Failure: It failed.
        """
        if key is not None:
            request["Key"] = self._base + key
        client = self._client()
        try:
            # fsspec's own thread runs the loop, so that this works inside a running loop as well.
            return sync(get_loop(), _call, client, method, self._bucket, request, timeout=_REQUEST_LIMIT)  # type: ignore[no-any-return]
        except CLIENT_ERRORS as error:
            raise failure_of(method, error) from error

    def _client(self) -> S3FileSystem:
        # No lock, which a fork could leave locked: of two that are made at once, one is dropped unconnected.
        pid = os.getpid()
        client = self._clients.get(pid)
        if client is None:
            client = self._clients.setdefault(pid, self._new_client())
            weakref.finalize(self, _close, pid, client)
        return client

    def _new_client(self) -> S3FileSystem:
        client = S3FileSystem(
            asynchronous=True,
            skip_instance_cache=True,
            use_listings_cache=False,
            endpoint_url=self._endpoint_url,
            client_kwargs={"region_name": self._region} if self._region else {},
            config_kwargs={
                "retries": {"total_max_attempts": 1, "mode": "standard"},
                "connect_timeout": _CONNECT_TIMEOUT,
                "read_timeout": _READ_TIMEOUT,
                "http_session_cls": _PlainSession,
                # As digests go, ours is enough; what botocore adds by itself fails on many servers.
                "request_checksum_calculation": "when_required",
                "response_checksum_validation": "when_required",
            },
            **({"profile": self._profile} if self._profile else {}),
        )
        client.retries = 1
        return client


class _PlainSession(AIOHTTPSession):  # type: ignore[misc]
    """aiobotocore's session, without what a client does by itself.

    - aiohttp's silent retry of PUT and DELETE on a lost connection: with it a 503 could come back for a
      write that an earlier, hidden attempt had done.
    - ``Expect: 100-continue``, a round trip more for each put: artifacts are small. It is never signed.
    """

    async def send(self, request: Any) -> Any:
        request.headers.pop("Expect", None)
        return await super().send(request)

    async def _get_session(self, proxy_url: str | None) -> aiohttp.ClientSession:
        session: aiohttp.ClientSession = await super()._get_session(proxy_url)
        session._retry_connection = False  # noqa: SLF001 - there is no public switch
        return session


async def _call(client: S3FileSystem, method: str, bucket: str, request: dict[str, Any]) -> dict[str, Any]:
    await client.set_session()
    # s3fs leaves out what botocore does not know. Without its condition a create would overwrite.
    if "IfNoneMatch" in request and not client._kwargs_helper.filter_dict(method, {"IfNoneMatch": "*"}):  # noqa: SLF001
        raise Failure(Unsupported, "the installed botocore has no conditional put; upgrade it")
    response: dict[str, Any] = await client._call_s3(method, Bucket=bucket, **request)  # noqa: SLF001 - s3fs's call layer
    if "Body" in response:
        async with response["Body"] as body:
            response["Body"] = await body.read()
    return response


def _close(pid: int, client: S3FileSystem) -> None:
    """Close a client's connections, in the process that made it."""
    creator = getattr(client, "_s3creator", None)
    if pid != os.getpid() or creator is None:
        return
    loop = get_loop()
    closing = creator.__aexit__(None, None, None)
    future = asyncio.run_coroutine_threadsafe(closing, loop)
    with contextlib.suppress(RuntimeError):
        if asyncio.get_running_loop() is loop:
            return  # collected on the loop's own thread, which must not wait for itself
    with contextlib.suppress(TimeoutError):
        future.result(timeout=1)


def _info(key: str, size: int, answer: dict[str, Any]) -> ObjectInfo:
    """What the answer to a put, get, head or list tells of an object; a put's has no time."""
    modified, etag = answer.get("LastModified"), answer.get("ETag")
    # Some servers quote the ETag, some don't.
    return ObjectInfo(key, size, modified and modified.astimezone(UTC), etag.strip('"') if etag else None)


def from_url(url: str) -> S3Store:
    """Open ``s3://bucket/prefix?endpoint_url=...&region=...&profile=...``.

    Raises:
        InvalidInput: An option is unknown, or the bucket's name or the prefix can't be one.
    """
    parts = parse_store_url(url, options=_OPTIONS)
    endpoint_url = parts.options.get("endpoint_url")
    if endpoint_url is not None and not re.match(r"https?://[^/@?#]+/?$", endpoint_url):
        raise InvalidInput(
            "store s3://...: endpoint_url is http(s)://host:port, without credentials or a path"
        )
    return S3Store(
        parts.host,
        parts.path.strip("/"),
        endpoint_url=endpoint_url,
        region=parts.options.get("region"),
        profile=parts.options.get("profile"),
    )
