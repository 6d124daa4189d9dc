"""A real S3 server for tests: moto's, in a process of its own.

`python s3_server.py` prints its URL on a line, and serves until it is ended. moto looks whether a
key exists and writes it in two steps, so that two creates at once can both win. S3 does not do
that; here a lock makes each request one step.

`POST /-fill/BUCKET?prefix=P&count=N` makes N small objects at once, which N requests would take
long for.
"""

import contextlib
import os
import subprocess
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

_XML = "{http://s3.amazonaws.com/doc/2006-03-01/}"


@contextlib.contextmanager
def running_server() -> Iterator[str]:
    """Start the server; gives its URL, ends it afterwards.

    Where ``WRITEAHEAD_S3_SERVER`` is the URL of one that runs already, that one is used and goes
    on.
    """
    running = os.environ.get("WRITEAHEAD_S3_SERVER")
    if running:
        yield running
        return
    environment = {**os.environ, "AWS_EC2_METADATA_DISABLED": "true"}
    with subprocess.Popen(
        [sys.executable, Path(__file__)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


class RawBucket:
    """A bucket seen around the store under test: plain HTTP, no S3 client.

    moto asks who it is, and does not check the signature.
    """

    def __init__(self, server: str, name: str, prefix: str = "") -> None:
        self.server, self.name, self.prefix = server, name, prefix
        self._url = f"{server}/{name}"

    def create(self) -> None:
        self._request("PUT", self._url)

    def read(self, key: str) -> bytes | None:
        return self._request("GET", f"{self._url}/{self.prefix}{key}")

    def write(self, key: str, data: bytes) -> None:
        self._request("PUT", f"{self._url}/{self.prefix}{key}", data)

    def delete(self, key: str) -> None:
        self._request("DELETE", f"{self._url}/{self.prefix}{key}")

    def fill(self, prefix: str, count: int) -> None:
        query = urllib.parse.urlencode({"prefix": self.prefix + prefix, "count": count})
        self._request("POST", f"{self.server}/-fill/{self.name}?{query}", b"")

    def keys(self) -> list[str]:
        """Every key below the prefix, however many."""
        found: list[str] = []
        while True:
            query = {
                "list-type": "2",
                "prefix": self.prefix,
                "start-after": self.prefix + (found or [""])[-1],
            }
            answer = self._request("GET", f"{self._url}?{urllib.parse.urlencode(query)}")
            assert answer is not None
            page = ET.fromstring(answer)
            found += [node.text.removeprefix(self.prefix) for node in page.iter(f"{_XML}Key")]
            if page.findtext(f"{_XML}IsTruncated") != "true":
                return found

    @staticmethod
    def _request(method: str, url: str, data: bytes | None = None) -> bytes | None:
        request = urllib.request.Request(url, data, method=method)
        request.add_header("Content-Type", "application/octet-stream")
        request.add_header(
            "Authorization", "AWS4-HMAC-SHA256 Credential=testing/20260101/us-east-1/s3/aws4_request"
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.read()
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 404:
                    return None
                raise


def main() -> None:
    from moto.moto_server.werkzeug_app import (
        DomainDispatcherApplication,
        create_backend_app,
    )
    from moto.s3.models import s3_backends
    from werkzeug import Request, Response
    from werkzeug.serving import WSGIRequestHandler, make_server

    moto = DomainDispatcherApplication(create_backend_app)
    lock = threading.Lock()

    def fill(request: Request) -> Response:
        bucket = request.path.split("/")[2]
        for number in range(int(request.args["count"])):
            key = f"{request.args['prefix']}{number:06d}"
            s3_backends["123456789012"]["aws"].put_object(bucket, key, b"filled")
        return Response(status=204)

    def application(environ, start_response):
        with lock:
            if environ["PATH_INFO"].startswith("/-fill/"):
                return list(fill(Request(environ))(environ, start_response))
            return list(moto(environ, start_response))

    class Handler(WSGIRequestHandler):
        # Connections stay open between requests, as on S3 itself.
        protocol_version = "HTTP/1.1"

        def log(self, *args: object) -> None:
            """Keep quiet."""

    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=Handler)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    # Whoever started us may be killed with -9: its end of our input then closes.
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    server.serve_forever()


if __name__ == "__main__":
    main()
