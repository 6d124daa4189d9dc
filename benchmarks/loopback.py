"""The remote system of the benchmarks: a server process that answers 204 to every request.

    python benchmarks/loopback.py [SECONDS]

It prints its port, keeps connections alive, and ends when its standard input does. Each answer
comes after so many seconds, 0 by default.
"""

import asyncio
import re
import sys

WAIT = float(sys.argv[1]) if len(sys.argv) > 1 else 0.0
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Remote(asyncio.Protocol):
    """Reads whole requests, and does nothing with them."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.received = b""

    def data_received(self, data: bytes) -> None:
        self.received += data
        while (end := self.received.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(self.received, 0, end)
            size = end + 4 + (int(length[1]) if length else 0)
            if len(self.received) < size:
                return
            self.received = self.received[size:]
            if WAIT:
                asyncio.get_running_loop().call_later(WAIT, self._answer)
            else:
                self._answer()

    def _answer(self) -> None:
        self.transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")


async def serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Remote, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve())
