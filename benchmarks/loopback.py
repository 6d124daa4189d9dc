"""The remote system of the benchmarks: a server process that answers 204 to every request.

    python benchmarks/loopback.py [SECONDS]

It prints its port, and keeps connections alive. An answer follows so many seconds after its
request. To each line on standard input it prints how many requests it has answered, and its CPU
seconds so far. It ends when standard input does.
"""

import asyncio
import re
import sys
import time

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Remote(asyncio.Protocol):
    """Reads whole requests, and does nothing with them."""

    seconds = 0.0
    answered = 0

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
            if self.seconds:
                asyncio.get_running_loop().call_later(self.seconds, self.answer)
            else:
                self.answer()

    def answer(self) -> None:
        Remote.answered += 1
        self.transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")


def tell() -> None:
    for _ in sys.stdin:
        print(Remote.answered, time.process_time(), flush=True)


async def serve(seconds: float) -> None:
    Remote.seconds = seconds
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Remote, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, tell)


if __name__ == "__main__":
    asyncio.run(serve(float(sys.argv[1]) if sys.argv[1:] else 0.0))
