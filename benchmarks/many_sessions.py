"""Many sessions, as they are long after: in memory, in a folder, and in a bucket that is made up.

`python many_sessions.py SESSIONS OPEN` serves the bucket: it prints its port, and ends when its
standard input does. Nothing is stored there. Each page of a listing, and each object, is made when
it is asked for, so that a million sessions take no room, and a server's disk is not what is
measured. Puts and deletes are answered, and forgotten.

Of every tenth completed session there is one journal entry, as of a run that had to wait; of the
others there is none. Open sessions have a plan and a marker.
"""

import asyncio
import hashlib
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import islice
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from writeahead import Adapter, PlannedOperation, emits, write_back
from writeahead.protocol.encoding import decode, encode_model
from writeahead.protocol.journal import journal_key
from writeahead.protocol.keys import final_key, open_key, planned_key
from writeahead.protocol.schema import Event, JournalEntry, PlannedWriteback, Writeback
from writeahead.stores.base import ObjectInfo, StoredObject
from writeahead.stores.memory import MemoryStore

LONG_AGO = datetime.now(UTC).replace(microsecond=0) - timedelta(days=200)
PAGE = 1000
WITH_JOURNAL = 10
SIZES = {"planned-writeback.json": 2000, "writeback.json": 2200, "000001.json": 900}


class Sessions:
    """Which objects there are.

    Args:
        count: The number of sessions.
        opened: How many of them are open, spread evenly.
    """

    def __init__(self, count: int, opened: int) -> None:
        self.count, self.opened = count, opened
        self.each = max(count // opened, 1) if opened else count + 1

    def is_open(self, number: int) -> bool:
        return number % self.each == 0 and number // self.each < self.opened

    def markers(self) -> Iterator[str]:
        return (open_key(session_id(index * self.each)) for index in range(self.opened))

    def keys_of(self, number: int) -> list[str]:
        """What is in a session's folder, in order."""
        name = session_id(number)
        if self.is_open(number):
            return [planned_key(name)]
        entries = [journal_key(name, 1)] if number % WITH_JOURNAL == 0 else []
        return [*entries, planned_key(name), final_key(name)]

    def all_keys(self, after: str = "") -> Iterator[str]:
        """All keys behind one, in order."""
        if after < "0":
            yield from (key for key in self.markers() if key > after)
        named = re.match(r"s(\d{8})", after)
        begin = int(named[1]) if named else 0 if after < "s" else self.count
        for number in range(begin, self.count):
            keys = self.keys_of(number)
            yield from (key for key in keys if key > after)


def session_id(number: int) -> str:
    return f"s{number:08d}"


def number_of(key: str) -> int:
    return int(key[1:9])


@cache
def _pattern() -> tuple[PlannedWriteback, Writeback]:
    """The plan and the final artifact of a session that was run: three operations, long ago."""

    class Poster(Adapter):
        name = "poster"

        @emits("create_with_key")
        def emit_post(self, payload: dict[str, object], _operation: PlannedOperation) -> None: ...

    store = MemoryStore()
    payload = {"subject": "What was agreed on the phone", "detail": "Call again. " * 10}
    operations = [{"kind": "post", "payload": payload | {"number": number}} for number in range(3)]
    write_back(operations, session_id="pattern", store=store, adapter=Poster()).raise_for_status()
    plan = decode(store.get("pattern/planned-writeback.json").data, PlannedWriteback, key="pattern/")
    final = decode(store.get("pattern/writeback.json").data, Writeback, key="pattern/")
    return (
        plan.model_copy(update={"created_at": LONG_AGO, "holder": None}),
        final.model_copy(update={"completed_at": LONG_AGO}),
    )


def artifact(key: str) -> bytes:
    """The bytes at a key."""
    name, _, what = key.partition("/")
    plan, final = _pattern()
    if what == "planned-writeback.json":
        return encode_model(plan.model_copy(update={"session_id": name}))
    if what == "writeback.json":
        return encode_model(final.model_copy(update={"session_id": name}))
    if what == "journal/000001.json":
        entry = JournalEntry(
            session_id=name,
            number=1,
            event=Event.CONFIRMED,
            owner=plan.owner,
            at=LONG_AGO,
            plan_digest=plan.digest,
            lease_seconds=plan.lease_seconds,
            receipts={item.id: item.receipt for item in final.operations[:1]},
        )
        return encode_model(entry)
    return b""


def in_memory(sessions: Sessions, *, whole: bool) -> MemoryStore:
    """A store of them, with what `content` has."""
    store = MemoryStore()
    for key in sessions.all_keys():
        data = content(sessions, key, whole=whole)
        store._objects[key] = StoredObject(data, ObjectInfo(key, len(data), LONG_AGO, "etag"))
    return store


def content(sessions: Sessions, key: str, *, whole: bool) -> bytes:
    """The bytes at a key; none where a listing reads none, unless they are asked for."""
    number = number_of(key.removeprefix(".open/"))
    return artifact(key) if whole or number % WITH_JOURNAL == 0 or sessions.is_open(number) else b""


def in_folder(sessions: Sessions, root: Path, *, whole: bool) -> None:
    """Files of them, with what `content` has, by bare calls, without a sync."""
    moment = LONG_AGO.timestamp()
    os.makedirs(f"{root}/.open")
    for key in sessions.markers():
        os.close(os.open(f"{root}/{key}", os.O_WRONLY | os.O_CREAT, 0o600))
    for number in range(sessions.count):
        folder, keys = f"{root}/{session_id(number)}", sessions.keys_of(number)
        os.mkdir(folder, 0o700)
        if len(keys) == 3:
            os.mkdir(f"{folder}/journal", 0o700)
        for key in keys:
            file = os.open(f"{root}/{key}", os.O_WRONLY | os.O_CREAT, 0o600)
            if data := content(sessions, key, whole=whole):
                os.write(file, data)
            os.close(file)
            if whole:  # a prune looks at the age
                os.utime(f"{root}/{key}", (moment, moment))
        os.utime(folder, (moment, moment))


class Bucket(asyncio.Protocol):
    """An S3 server of the few requests that a store sends."""

    sessions: Sessions
    seen: Counter[str]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport, self.received = transport, b""

    def data_received(self, data: bytes) -> None:
        self.received += data
        while (end := self.received.find(b"\r\n\r\n")) >= 0:
            length = re.search(rb"\r\ncontent-length: *(\d+)", self.received[:end], re.IGNORECASE)
            size = end + 4 + (int(length[1]) if length else 0)
            if len(self.received) < size:
                return
            head, body, self.received = (
                self.received[:end],
                self.received[end + 4 : size],
                self.received[size:],
            )
            verb, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
            self.answer(verb, target, body)

    def answer(self, verb: str, target: str, body: bytes) -> None:
        parts = urlsplit(target)
        key = unquote(parts.path).lstrip("/").partition("/")[2]
        if parts.path == "/counts":
            self.send("200 OK", json.dumps(self.seen).encode())
            self.seen.clear()
            return
        self.seen[verb if key or verb != "GET" else "LIST"] += 1
        if verb == "DELETE":
            self.send("204 No Content", b"")
        elif verb == "PUT":
            self.send("200 OK", b"", etag=hashlib.md5(body).hexdigest())
        elif key:
            self.object(key, verb)
        else:
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            self.send("200 OK", page(self.sessions, query).encode(), kind="application/xml")

    def object(self, key: str, verb: str) -> None:
        is_marker = key.startswith(".open/")
        number = number_of(key.removeprefix(".open/")) if re.match(r"(\.open/)?s\d{8}", key) else -1
        there = 0 <= number < self.sessions.count
        if not there or (not is_marker and key not in self.sessions.keys_of(number)):
            self.send("404 Not Found", b"<Error><Code>NoSuchKey</Code></Error>" if verb == "GET" else b"")
            return
        data = artifact(key)
        self.send("200 OK", data, etag=hashlib.md5(data).hexdigest(), head=verb == "HEAD")

    def send(
        self, status: str, body: bytes, kind: str = "binary/octet-stream", etag: str = "", *, head=False
    ):
        lines = [
            f"HTTP/1.1 {status}",
            f"Content-Length: {len(body)}",
            f"Content-Type: {kind}",
            f"Last-Modified: {LONG_AGO:%a, %d %b %Y %H:%M:%S} GMT",
        ]
        if etag:
            lines.append(f'ETag: "{etag}"')
        self.transport.write("\r\n".join([*lines, "", ""]).encode() + (b"" if head else body))


def page(sessions: Sessions, query: dict[str, str]) -> str:
    """One page of ListObjectsV2, as S3 writes it."""
    prefix = query.get("prefix", "")
    after = max(query.get("continuation-token", ""), query.get("start-after", ""))
    after = max(after, prefix[:-1] + chr(ord(prefix[-1]) - 1) + "~" if prefix else "")
    wanted = (key for key in sessions.all_keys(after) if key >= prefix)
    found = []
    for key in islice(wanted, PAGE + 1):
        if not key.startswith(prefix):
            break
        found.append(key)
    is_more = len(found) > PAGE
    contents = "".join(map(_content, found[:PAGE]))
    token = f"<NextContinuationToken>{found[PAGE - 1]}</NextContinuationToken>" if is_more else ""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>bench</Name><Prefix>{prefix}</Prefix><KeyCount>{len(found[:PAGE])}</KeyCount>"
        f"<MaxKeys>{PAGE}</MaxKeys><EncodingType>url</EncodingType>"
        f"<IsTruncated>{'true' if is_more else 'false'}</IsTruncated>{token}{contents}</ListBucketResult>"
    )


_MODIFIED = LONG_AGO.strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _content(key: str) -> str:
    size = SIZES.get(key.rpartition("/")[2], 0)
    return (
        f"<Contents><Key>{key}</Key><LastModified>{_MODIFIED}</LastModified>"
        "<ETag>&quot;9b2cf535f27731c974343645a3985328&quot;</ETag>"
        f"<Size>{size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
    )


async def serve() -> None:
    Bucket.sessions, Bucket.seen = Sessions(int(sys.argv[1]), int(sys.argv[2])), Counter()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Bucket, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve())
