"""A store in an S3 bucket, AWS's or a compatible one, through s3fs's call layer.

s3fs's file functions are not used: they cache listings, cost extra requests, and can't tell our own
write from another's. Its call layer sends one S3 request per call; every retry of s3fs,
botocore and aiohttp is off, and `RemoteStore` has the only retries there are.
"""

import base64
import hashlib
import math
import os
import time
import urllib.parse
import weakref
from collections.abc import Iterator
from datetime import UTC
from http import HTTPStatus
from typing import Any, Self

from s3fs import S3FileSystem

from writeahead.errors import Unsupported
from writeahead.stores.base import ObjectInfo, StoredObject
from writeahead.stores.remote import OUT_OF_ORDER, RemoteStore, RequestFailed, is_key
from writeahead.stores.s3_answers import not_s3
from writeahead.stores.s3_client import call, close, close_all, keys_of, new_client, run, status_of
from writeahead.stores.s3_errors import failure_of
from writeahead.stores.s3_options import S3Options, parse_s3_url, s3_location
from writeahead.stores.s3_session import RequestTrace

__all__ = ["S3Store"]

# Seconds for one request in all, headers and body: a server that sends a byte now and then must not
# hold a run for ever.
_REQUEST_LIMIT = 60.0
# Seconds more for what comes before the first request: credentials may come from a program.
_SETUP_LIMIT = 60.0
# Their ETags are no digests of the object: "Object" in AWS's S3 API reference.
_ETAG_IS_NO_DIGEST = {"aws:kms", "aws:kms:dsse"}
# A page of a listing has at least these.
_OF_A_LISTING = {"Name", "IsTruncated", "KeyCount", "MaxKeys", "Contents"}


class S3Store(RemoteStore):
    """Objects in a bucket, below a prefix. The bucket must exist; botocore finds the credentials.

    One put is one PUT, one get one GET, one head one HEAD, one delete one DELETE, and a listing one
    request for each 1000 keys. Only a create that the server refuses costs a GET more, to see what
    holds the key.

    ``head`` is None also where the bucket is missing: S3's answer to a HEAD has no body that would
    tell. All other verbs say so.

    Args:
        bucket: The bucket's name.
        prefix: What stands before every key, without ``/`` at either end; at most 123 bytes.
        options: How to reach it, and what to send with each object.

    Raises:
        InvalidInput: The bucket's name or the prefix can't be one.
    """

    def __init__(self, bucket: str, prefix: str = "", options: S3Options | None = None) -> None:
        location = s3_location(bucket, prefix, options)
        self._bucket, self._base, self._name = location.bucket, location.prefix, location.name
        self._options = location.options
        self._anonymous = location.options.anonymous
        self._object_options = _object_options(location.options)
        self._limit = max(_REQUEST_LIMIT, location.options.read_timeout)
        # By process, the newest last: no client outlives a fork. A child keeps its parent's, so as
        # not to tear it down.
        self._clients: dict[int, list[S3FileSystem]] = {}
        self._renew_after = -math.inf

    def __reduce__(self) -> tuple[type[Self], tuple[str, str, S3Options]]:
        return type(self), (self._bucket, self._base.rstrip("/"), self._options)

    @property
    def name(self) -> str:
        """``s3://bucket/prefix``, without options."""
        return self._name

    def _put(self, key: str, data: bytes, *, if_absent: bool) -> ObjectInfo:
        # The server checks the body against it. Every server knows this digest; the newer ones, not
        # every.
        digest = hashlib.md5(data, usedforsecurity=False).digest()
        content_md5 = base64.b64encode(digest).decode()
        condition = {"IfNoneMatch": "*"} if if_absent else {}

        def attempt() -> ObjectInfo:
            try:
                response = self._send(
                    "put_object", key, Body=data, ContentMD5=content_md5, **condition, **self._object_options
                )
            except RequestFailed as failure:
                if if_absent and failure.status == HTTPStatus.PRECONDITION_FAILED:
                    return self._settle(key, data)
                raise
            stored = _info(key, len(data), response, version=response.get("VersionId"))
            proven = stored.etag and response.get("ServerSideEncryption") in _ETAG_IS_NO_DIGEST
            return stored if proven else self._proved(stored, data, digest.hex())

        return self._retried("put", key, attempt, writes=True)

    def _read(self, key: str) -> StoredObject:
        response = self._send("get_object", key)
        data = response["Body"]
        return StoredObject(data, _object_info(key, len(data), response))

    def _head(self, key: str) -> ObjectInfo | None:
        def attempt() -> ObjectInfo | None:
            try:
                response = self._send("head_object", key)
            except RequestFailed as failure:
                if failure.absent:
                    return None
                raise
            return _object_info(key, response.get("ContentLength"), response)

        return self._retried("head", key, attempt)

    def _delete(self, key: str) -> None:
        def attempt() -> None:
            try:
                response = self._send("delete_object", key)
            except RequestFailed as failure:
                # S3 itself says 204, some compatible servers 404.
                if not failure.absent:
                    raise
            else:
                if status_of(response) != HTTPStatus.NO_CONTENT:
                    self._require_gone(key)

        self._retried("delete", key, attempt, writes=True)

    def _list(self, prefix: str, start_after: str | None) -> Iterator[ObjectInfo]:
        after, last = start_after or "", ""
        request: dict[str, Any] = {"Prefix": self._base + prefix}
        if start_after:
            request["StartAfter"] = self._base + start_after
        while True:
            page = self._retried("list", prefix, lambda: self._page(request))
            for item in page.get("Contents", ()):
                key = item["Key"].removeprefix(self._base)
                if not is_key(key):
                    continue
                if key <= last:
                    raise Unsupported(self.name, "list", prefix, OUT_OF_ORDER)
                last = key
                if key > after:
                    yield _info(key, item["Size"], item)
            if not page.get("IsTruncated"):
                return
            token = page.get("NextContinuationToken")
            if not token or token == request.get("ContinuationToken"):
                detail = "the server says that its listing goes on, and not where"
                raise Unsupported(self.name, "list", prefix, detail)
            request["ContinuationToken"] = token

    def _page(self, request: dict[str, Any]) -> dict[str, Any]:
        page = self._send("list_objects_v2", None, **request)
        if not _OF_A_LISTING & page.keys():
            raise not_s3("no ListBucketResult")
        return page

    def _send(self, method: str, key: str | None, **request: Any) -> dict[str, Any]:
        """Send one S3 request, once.

        Raises:
            RequestFailed: It failed.
        """
        if key is not None:
            request["Key"] = self._base + key
        trace = RequestTrace()
        try:
            client = self._client()
            given = (client, method, self._bucket, request, trace, self._limit)
            return run(call, *given, limit=_SETUP_LIMIT + self._limit)
        except RequestFailed:
            raise
        except Exception as error:
            raise failure_of(method, error, sent=trace.sent) from error
        finally:
            self._warn_once(trace.endpoint)

    def _client(self) -> S3FileSystem:
        # No lock, which a fork could leave locked: of two that are made at once, one is dropped
        # unconnected.
        pid = os.getpid()
        clients = self._clients.get(pid)
        if clients is None:
            clients = self._clients.setdefault(pid, [new_client(self._options)])
            weakref.finalize(self, close_all, pid, clients)
        return clients[-1]

    def _renew(self) -> bool:
        # Not at every refusal: a role gives other credentials each time, also where it is a
        # permission that is missing.
        now, pid = time.monotonic(), os.getpid()
        if now < self._renew_after:
            return False
        self._renew_after = now + _SETUP_LIMIT + self._limit
        clients, client = self._clients[pid], new_client(self._options)
        try:
            renewed = self._keys(clients[-1]) != self._keys(client)
        except Exception:  # noqa: BLE001 - whatever keeps credentials from being loaded: the refusal stands
            renewed = False
        if not renewed:
            close(pid, client)
            return False
        clients.append(client)
        # Other threads may still be using the refused one, but not the one before: no request takes
        # longer than `_renew_after` waits.
        while len(clients) > 2:  # noqa: PLR2004
            close(pid, clients.pop(0))
        return True

    def _keys(self, client: S3FileSystem) -> object:
        return run(keys_of, client, limit=_SETUP_LIMIT)


def _info(key: str, size: int, answer: dict[str, Any], version: str | None = None) -> ObjectInfo:
    """What the answer to a put, get, head or list tells of an object; a put's has no time."""
    modified, etag = answer.get("LastModified"), answer.get("ETag")
    # Some servers quote the ETag, some don't.
    etag = etag.strip('"') if etag else None
    return ObjectInfo(key, size, modified and modified.astimezone(UTC), etag, version)


def _object_info(key: str, size: int | None, answer: dict[str, Any]) -> ObjectInfo:
    """What the answer to a get or head tells; it must have the headers of an object."""
    if size is None or not answer.get("ETag") or not answer.get("LastModified"):
        raise not_s3("no ETag, Last-Modified or Content-Length")
    return _info(key, size, answer)


def _object_options(options: S3Options) -> dict[str, str]:
    """What goes with each put. No ACL: buckets with ACLs off, AWS's default, refuse one."""
    given = {
        "ServerSideEncryption": options.sse,
        "SSEKMSKeyId": options.sse_kms_key_id,
        "StorageClass": options.storage_class,
        "Tagging": urllib.parse.urlencode(options.tags) or None,
    }
    return {name: value for name, value in given.items() if value is not None}


def from_url(url: str) -> S3Store:
    """Open ``s3://bucket/prefix?option=value&...`` with the options of `S3Options`.

    Raises:
        InvalidInput: An option is unknown or has a value that it can't have, or the bucket's name
            or the prefix can't be one.
    """
    location = parse_s3_url(url)
    return S3Store(location.bucket, location.prefix.rstrip("/"), location.options)
