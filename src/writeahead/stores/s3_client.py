"""The client under `writeahead.stores.s3`: s3fs's call layer, kept from adding anything.

Every retry of s3fs, botocore and aiohttp is off, redirects are not followed, and logs are silent.
"""

import asyncio
import contextlib
import os
import re
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from datetime import datetime
from http import HTTPStatus
from typing import Any, TypeVar

from aiobotocore.session import AioSession
from botocore.utils import parse_timestamp
from fsspec.asyn import get_loop
from s3fs import S3FileSystem

from writeahead.errors import Unsupported
from writeahead.stores.client_logs import quietly
from writeahead.stores.remote import RequestFailed
from writeahead.stores.s3_answers import not_s3
from writeahead.stores.s3_options import S3Options
from writeahead.stores.s3_session import TRACE, PlainSession, RequestTrace, never_follow, read_bounded

__all__ = ["call", "close", "close_all", "keys_of", "new_client", "run", "status_of"]

_T = TypeVar("_T")

# As S3 writes the times of a listing: "ListObjectsV2" in its API reference.
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z", re.ASCII)


def new_client(options: S3Options) -> S3FileSystem:
    """Make a client that sends each request once. It connects at the first one."""
    region = options.region or os.environ.get("AWS_REGION")
    session = AioSession(profile=options.profile)
    # Four fifths of the time that a listing took were botocore's own parser of times, dateutil.
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_moment)
    client = S3FileSystem(
        session=session,
        asynchronous=True,
        skip_instance_cache=True,
        use_listings_cache=False,
        anon=options.anonymous,
        endpoint_url=options.endpoint_url,
        # botocore itself knows AWS_DEFAULT_REGION only.
        client_kwargs={"region_name": region} if region else {},
        config_kwargs={
            "retries": {"total_max_attempts": 1, "mode": "standard"},
            "connect_timeout": options.connect_timeout,
            "read_timeout": options.read_timeout,
            "s3": {"addressing_style": options.addressing_style},
            "http_session_cls": PlainSession,
            # As digests go, ours is enough; what botocore adds by itself fails on many servers.
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
        },
    )
    client.retries, client.never_follows = 1, None
    return client


def _moment(given: Any) -> datetime:
    """Read a time of an answer, as botocore does."""
    if isinstance(given, str) and _TIME.fullmatch(given):
        return datetime.fromisoformat(given)
    found: datetime = parse_timestamp(given)
    return found


def run(function: Callable[..., Awaitable[_T]], *given: Any, limit: float) -> _T:
    """Call a coroutine function on fsspec's own loop, and wait for what it returns.

    That loop has a thread of its own, so that this works inside a running loop as well. fsspec's
    ``sync`` does the same; with a limit, it takes 1.8 times the CPU on Python 3.11.

    Args:
        function: What to call.
        given: Its arguments.
        limit: Seconds. What has not returned by then is cancelled.

    Raises:
        NotImplementedError: This is the thread of that loop, which can't wait for itself.
        TimeoutError: The limit has passed.
        Exception: What the function raises.
    """
    loop = get_loop()
    if _is_on_its_thread(loop):
        raise NotImplementedError
    answer: Future[_T] = Future()
    tasks: list[asyncio.Task[None]] = []
    loop.call_soon_threadsafe(lambda: tasks.append(loop.create_task(_deliver(answer, function, given))))
    try:
        return answer.result(limit)
    finally:
        if not answer.done():
            # In this order on the loop: what has not begun by now, since it was busy, never will.
            loop.call_soon_threadsafe(lambda: [task.cancel() for task in tasks])


async def _deliver(
    answer: "Future[_T]", function: Callable[..., Awaitable[_T]], given: tuple[Any, ...]
) -> None:
    # At once: asyncio's own way from a task to another thread takes a turn of the loop more.
    try:
        answer.set_result(await function(*given))
    except asyncio.CancelledError:
        answer.cancel()
        raise
    except BaseException as error:  # noqa: BLE001 - all of them are the waiting thread's
        answer.set_exception(error)


async def call(  # noqa: PLR0917 - `run` hands them on by position
    client: S3FileSystem, method: str, bucket: str, request: dict[str, Any], trace: RequestTrace, limit: float
) -> dict[str, Any]:
    """Send one request, and read the answer.

    Args:
        client: Sends it.
        method: botocore's name of the call.
        bucket: Where to.
        request: The other parameters.
        trace: Gets what becomes of the request.
        limit: Seconds for headers and body.

    Raises:
        RequestFailed: The answer is too large, or not that of a store.
        Exception: What the client raises.
    """
    TRACE.set(trace)
    with quietly():
        return await _call(client, method, bucket, request, trace, limit)


async def _call(  # noqa: PLR0917 - the same
    client: S3FileSystem, method: str, bucket: str, request: dict[str, Any], trace: RequestTrace, limit: float
) -> dict[str, Any]:
    connected = await client.set_session()
    if connected is not client.never_follows:  # s3fs may have connected anew
        never_follow(connected)
        client.never_follows = connected
    trace.endpoint = connected.meta.endpoint_url
    # s3fs leaves out what botocore does not know. Without its condition a create would overwrite.
    if "IfNoneMatch" in request and not client._kwargs_helper.filter_dict(method, {"IfNoneMatch": "*"}):  # noqa: SLF001
        raise RequestFailed(Unsupported, "the installed botocore has no conditional put; upgrade it")
    async with asyncio.timeout(limit):
        response: dict[str, Any] = await client._call_s3(method, Bucket=bucket, **request)  # noqa: SLF001 - s3fs's call layer
        if "Body" in response:
            # Not `as body`: that is the bare response until aiobotocore 3.
            body = response["Body"]
            async with body:
                response["Body"] = await read_bounded(body.iter_chunks(65536), response.get("ContentLength"))
    if method != "delete_object" and status_of(response) != HTTPStatus.OK:
        raise not_s3(f"status {status_of(response)}")
    return response


async def keys_of(client: S3FileSystem) -> object:
    """The credentials of this moment, to be compared."""
    with quietly():
        await client.set_session()
        found = await client.session.get_credentials()
        return found and tuple(await found.get_frozen_credentials())


def close_all(pid: int, clients: list[S3FileSystem]) -> None:
    """Close clients as `close` does, and forget them."""
    while clients:
        close(pid, clients.pop())


def close(pid: int, client: S3FileSystem) -> None:
    """Close a client's connections, in the process that made it."""
    creator = getattr(client, "_s3creator", None)
    if pid != os.getpid() or creator is None:
        return
    loop = get_loop()
    closing = creator.__aexit__(None, None, None)
    future = asyncio.run_coroutine_threadsafe(closing, loop)
    if _is_on_its_thread(loop):
        return  # collected there, and a thread must not wait for itself
    with contextlib.suppress(TimeoutError):
        future.result(timeout=1)


def _is_on_its_thread(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


def status_of(response: dict[str, Any]) -> int:
    """The HTTP status of an answer."""
    return int(response["ResponseMetadata"]["HTTPStatusCode"])
