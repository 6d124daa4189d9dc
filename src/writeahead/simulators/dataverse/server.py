"""uvicorn with two additions: connections that can be dropped, and a fast and clean stop."""

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from writeahead.simulators.dataverse.app import CONNECTION, SimulatorApp

__all__ = ["Server"]

_TICK = 0.1  # uvicorn counts its ticks by this, and refreshes the Date header every tenth
_POLL = 0.001
_GRACE = 1.0  # seconds that a stop waits for requests under way
# on, zero seconds: closing then sends RST and forgets unsent bytes (socket(7), SO_LINGER)
_NO_LINGER = struct.pack("ii", 1, 0)


class _Protocol(H11Protocol):
    """Passes its connection to the application, as an ASGI extension."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        inner = self.app

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            scope.setdefault("extensions", {})[CONNECTION] = self
            await inner(scope, receive, send)

        self.app = app

    def close(self) -> None:
        """See `writeahead.simulators.dataverse.app.Connection`."""
        self.transport.close()

    def reset(self) -> None:
        """See `writeahead.simulators.dataverse.app.Connection`."""
        peer = self.transport.get_extra_info("socket")
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self.transport.abort()


class Server(uvicorn.Server):
    """Serves one simulator on a listening socket.

    Args:
        app: The application.
        on_started: Called once requests are answered.
    """

    def __init__(self, app: SimulatorApp, on_started: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=_Protocol,
                ws="none",
                loop="asyncio",
                lifespan="off",
                log_config=None,
                log_level="warning",
                access_log=False,
                server_header=False,
            )
        )
        self._app = app
        self._on_started = on_started
        self._loop: asyncio.AbstractEventLoop | None = None
        self._woken = asyncio.Event()

    def stop(self) -> None:
        """Ask the server to stop; safe to call from any thread, at any time."""
        self.should_exit = True
        # Without a loop the server has not started, or has ended: the flag is enough.
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._woken.set)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer, then call ``on_started``."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets=sockets)
        self._on_started()

    async def main_loop(self) -> None:
        """Run until `stop` is called."""
        # uvicorn's own sleeps through the tick, which would make each stop wait for it.
        tick = 0
        while not await self.on_tick(tick):
            tick += 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), _TICK)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish what is being answered, and close everything."""
        # uvicorn's own waits for every request and 0.1 s more. This one drops delayed requests.
        for server in self.servers:
            server.close()
        for listening in sockets or []:
            listening.close()
        self._app.stop_waiting()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        await self._drained(time.monotonic() + _GRACE)
        # Clients that never finish their request, or never read their reply.
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await self._drained(time.monotonic() + _GRACE)

    async def _drained(self, deadline: float) -> None:
        # uvicorn's own sets, which offer no way to wait for a change.
        while self.server_state.connections or self.server_state.tasks:
            if time.monotonic() > deadline:
                return
            await asyncio.sleep(_POLL)
