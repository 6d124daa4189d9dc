"""The truth about a server, found by bare HTTP around every store and client library."""

import base64
import hashlib
import hmac
import http.client
import threading
import urllib.parse
from abc import ABC, abstractmethod
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree as ET

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.support.real_servers import BUCKET, Endpoint

RACERS = 8
# In the order of their bytes; a server that walks folders lists "a/b" first.
ORDERED = ["o/B", "o/a-b", "o/a.b", "o/a/b", "o/a0", "o/a_b", "o/b"]

# How Azure is told what a PUT makes.
BLOB = {"x-ms-blob-type": "BlockBlob"}

Request = tuple[str, str, bytes, dict[str, str]]


@dataclass(frozen=True)
class Raw(ABC):
    """Requests to one bucket of a server."""

    server: Endpoint
    bucket: str = BUCKET

    @abstractmethod
    def signed(self, method: str, key: str, data: bytes = b"", headers=None, query: str = "") -> Request:
        """A request, ready to be sent; the bucket's own where the key is empty."""

    @abstractmethod
    def create_bucket(self) -> None: ...

    @abstractmethod
    def create(self, key: str, data: bytes) -> Request:
        """A create-if-absent, ready to be sent."""

    @abstractmethod
    def put(self, key: str, data: bytes) -> int: ...

    @abstractmethod
    def keys(self, prefix: str, start_after: str = "") -> list[str]:
        """In the order in which the server lists them; one page."""

    def get(self, key: str) -> bytes:
        return self.send("GET", key)[1]

    def send(self, method: str, key: str, data: bytes = b"", headers=None, query="") -> tuple[int, bytes]:
        with closing_connection(self.server.url) as connection:
            return exchange(connection, self.signed(method, key, data, headers, query))


class S3(Raw):
    """An S3 server's."""

    def create_bucket(self) -> None:
        expect(self.send("PUT", ""), 200)

    def version_bucket(self) -> int:
        """Ask for versions; the status says whether the server has any."""
        body = (
            b'<VersioningConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            b"<Status>Enabled</Status></VersioningConfiguration>"
        )
        digest = base64.b64encode(hashlib.md5(body).digest()).decode()
        status = self.send("PUT", "", body, {"Content-MD5": digest}, "versioning=")[0]
        if status == 200 and b"Enabled" not in self.send("GET", "", query="versioning=")[1]:
            return 501
        return status

    def create(self, key: str, data: bytes) -> Request:
        return self.signed("PUT", key, data, {"If-None-Match": "*"})

    def put(self, key: str, data: bytes) -> int:
        return self.send("PUT", key, data)[0]

    def keys(self, prefix: str, start_after: str = "") -> list[str]:
        query = urllib.parse.urlencode({"list-type": "2", "prefix": prefix, "start-after": start_after})
        answer = self.send("GET", "", query=query)
        expect(answer, 200)
        return [one.text or "" for one in ET.fromstring(answer[1]).iterfind(".//{*}Contents/{*}Key")]

    def signed(self, method: str, key: str, data: bytes = b"", headers=None, query: str = "") -> Request:
        target = f"/{self.bucket}/{key}" if key else f"/{self.bucket}"
        target += f"?{query}" if query else ""
        request = AWSRequest(method, self.server.url + target, dict(headers or {}), data)
        credentials = Credentials(self.server.access_key, self.server.secret_key)
        S3SigV4Auth(credentials, "s3", "us-east-1").add_auth(request)
        return method, target, data, dict(request.headers.items())


class Azure(Raw):
    """A container's of an Azure Blob server, by a shared access signature."""

    def create_bucket(self) -> None:
        expect(self.send("PUT", "", query="restype=container"), 201)

    def create(self, key: str, data: bytes) -> Request:
        return self.signed("PUT", key, data, {"If-None-Match": "*", **BLOB})

    def put(self, key: str, data: bytes) -> int:
        return self.send("PUT", key, data, BLOB)[0]

    def keys(self, prefix: str, start_after: str = "") -> list[str]:
        query = urllib.parse.urlencode({"restype": "container", "comp": "list", "prefix": prefix})
        answer = self.send("GET", "", query=query)
        expect(answer, 200)
        names = [one.text or "" for one in ET.fromstring(answer[1]).iterfind(".//Blob/Name")]
        # Azure's listing has no start; a client leaves out what is before it.
        return [name for name in names if name > start_after]

    def signed(self, method: str, key: str, data: bytes = b"", headers=None, query: str = "") -> Request:
        path = urllib.parse.urlsplit(self.server.url).path + f"/{self.bucket}" + (f"/{key}" if key else "")
        queries = "&".join(filter(None, (query, self._signature())))
        return method, f"{path}?{queries}", data, dict(headers or {})

    def _signature(self) -> str:
        """An account's: https://learn.microsoft.com/rest/api/storageservices/create-account-sas."""
        end = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        fields = {"sv": "2020-08-04", "ss": "b", "srt": "sco", "sp": "rwdlac", "se": end, "spr": "https,http"}
        named = (self.server.access_key, fields["sp"], fields["ss"], fields["srt"], "", end, "")
        text = "\n".join([*named, fields["spr"], fields["sv"], ""])
        key = base64.b64decode(self.server.secret_key)
        digest = hmac.new(key, text.encode(), hashlib.sha256).digest()
        return urllib.parse.urlencode({**fields, "sig": base64.b64encode(digest).decode()})


class closing_connection:  # noqa: N801 - a context manager
    def __init__(self, url: str) -> None:
        parts = urllib.parse.urlsplit(url)
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)

    def __enter__(self) -> http.client.HTTPConnection:
        return self._connection

    def __exit__(self, *_: object) -> None:
        self._connection.close()


def exchange(connection: http.client.HTTPConnection, request: Request) -> tuple[int, bytes]:
    method, target, data, headers = request
    connection.request(method, target, data, headers)
    answer = connection.getresponse()
    return answer.status, answer.read()


def expect(answer: tuple[int, bytes], *statuses: int) -> None:
    if answer[0] not in statuses:
        raise AssertionError(f"the server says {answer[0]}: {answer[1][:300]!r}")


def race(raw: Raw, rounds: int, prefix: str = "raw/") -> Counter[int]:
    """Creates of one key at once, on warm connections, again and again: how often how many won."""
    start = threading.Barrier(RACERS)

    def run(racer: int) -> list[int]:
        won = []
        with closing_connection(raw.server.url) as connection:
            exchange(connection, raw.signed("GET", f"{prefix}none"))
            for number in range(rounds):
                request = raw.create(f"{prefix}{number}", b"racer %d" % racer)
                start.wait()
                try:
                    status = exchange(connection, request)[0]
                except (OSError, http.client.HTTPException):
                    connection.close()
                    status = 0
                won.append(200 <= status < 300)
        return won

    with ThreadPoolExecutor(RACERS) as pool:
        return Counter(map(sum, zip(*pool.map(run, range(RACERS)), strict=True)))


def refuses(raw: Raw, key: str) -> bool:
    """Whether a create of what is there is refused, and leaves it."""
    raw.put(key, b"first")
    with closing_connection(raw.server.url) as connection:
        status = exchange(connection, raw.create(key, b"second"))[0]
    return status in (409, 412) and raw.get(key) == b"first"


def order(raw: Raw) -> str:
    """Whether keys are listed in the order of their bytes, from any key on."""
    for key in ORDERED:
        status = raw.put(key, b"x")
        if not 200 <= status < 300:
            return f"{key.removeprefix('o/')} refused ({status})"
    listed = raw.keys("o/")
    if sorted(listed) != ORDERED:
        return "not all are listed"
    if listed != ORDERED:
        return "not in byte order"
    for number, key in enumerate(ORDERED):
        if raw.keys("o/", key) != ORDERED[number + 1 :]:
            return "starts elsewhere"
    return "byte order"
