"""The HTTP session under s3fs: no redirects, no hidden retries, bounded answers."""

from collections.abc import AsyncIterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiobotocore.httpsession import AIOHTTPSession

from writeahead.errors import Unsupported
from writeahead.stores import base
from writeahead.stores.remote import RequestFailed

__all__ = ["TRACE", "PlainSession", "RequestTrace", "never_follow", "read_bounded"]

# The largest answer besides an object: a listing of 1000 keys of 1024 bytes, with room for owners,
# checksums and escaped characters.
_MAX_ANSWER_BYTES = 16 * 1024 * 1024
_CHUNK = 65536


@dataclass
class RequestTrace:
    """What became of one request.

    Attributes:
        sent: Any of it may have left this process.
        endpoint: The URL of the server, as botocore found it.
    """

    sent: bool = False
    endpoint: str | None = None


TRACE: ContextVar[RequestTrace] = ContextVar("writeahead_s3_request")


class PlainSession(AIOHTTPSession):  # type: ignore[misc]
    """aiobotocore's session, without what a client does by itself.

    - Redirects: aiohttp would send the session token, and mostly the payload, to any host.
    - aiohttp's silent retry of PUT and DELETE on a lost connection: with it a 503 could come back
      for a write that an earlier, hidden attempt had done.
    - ``Expect: 100-continue``, a round trip more for each put: artifacts are small. It is never
      signed.
    - Answers of any length.
    """

    async def send(self, request: Any) -> Any:
        """Send one request, once; see `AIOHTTPSession.send`."""
        request.headers.pop("Expect", None)
        return await super().send(request)

    async def _get_session(self, proxy_url: str | None) -> "_WithoutRedirects":
        session: aiohttp.ClientSession = await super()._get_session(proxy_url)
        if session._retry_connection:  # noqa: SLF001 - there is no public switch
            session._retry_connection = False  # noqa: SLF001
            session._response_class = _BoundedResponse  # noqa: SLF001 - only the constructor, which is aiobotocore's, takes it
            tracing = aiohttp.TraceConfig()
            tracing.on_request_headers_sent.append(_note_sent)
            tracing.freeze()
            session._trace_configs.append(tracing)  # noqa: SLF001 - the same
        return _WithoutRedirects(session)


class _WithoutRedirects:
    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    def request(self, method: str, **options: Any) -> Any:
        return self._session.request(method, allow_redirects=False, **options)


class _BoundedResponse(aiohttp.ClientResponse):
    """An answer that is read as a whole: anything but an object, which `read_bounded` reads."""

    async def read(self) -> bytes:
        if self._body is None:
            try:
                self._body = await read_bounded(
                    self.content.iter_chunked(_CHUNK), self.content_length, _MAX_ANSWER_BYTES
                )
            except BaseException:
                self.close()
                raise
        return await super().read()


async def read_bounded(parts: AsyncIterator[bytes], told: int | None, limit: int | None = None) -> bytes:
    """Read a body of at most ``limit`` bytes.

    Args:
        parts: The body.
        told: Its length as the server told it; None if it did not.
        limit: By default that of an object.

    Raises:
        RequestFailed: There is more, or the server says so; nothing more is read then.
    """
    data = bytearray()
    limit = base.MAX_OBJECT_BYTES if limit is None else limit
    if told is None or told <= limit:
        async for part in parts:
            data += part
            if len(data) > limit:
                break
        else:
            return bytes(data)
    raise RequestFailed(
        Unsupported, f"the answer has more than {limit} bytes, the most that is read", unknown=True
    )


async def _note_sent(*_: object) -> None:
    trace = TRACE.get(None)
    if trace is not None:
        trace.sent = True


def never_follow(client: Any) -> None:
    """Keep botocore from sending a request again, to the host of another region.

    Once for a client: after it, botocore looks up all of its handlers anew.
    """
    # Its redirector leaves alone what it believes to have redirected once already.
    client.meta.events.register_last("before-parameter-build.s3", _call_it_redirected, unique_id="writeahead")


def _call_it_redirected(*, context: dict[str, Any], **_: object) -> None:
    context.setdefault("s3_redirect", {})["redirected"] = True
