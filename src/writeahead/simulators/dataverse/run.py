"""Starting a simulator: in this process (`Simulator`) or as a process of its own (`serve`)."""

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Self

from writeahead._extras import requires_extra
from writeahead.errors import InvalidInput
from writeahead.simulators.dataverse.faults import Faults
from writeahead.simulators.dataverse.inspection import SimulatorDatabase
from writeahead.simulators.dataverse.messages import API_ROOT
from writeahead.simulators.dataverse.settings import Settings

if TYPE_CHECKING:
    from writeahead.simulators.dataverse.server import Server

__all__ = ["Simulator", "serve"]

_HOST = "127.0.0.1"
_LARGEST_PORT = 65_535


class Simulator(SimulatorDatabase):
    """A simulator in a thread of this process; a context manager.

    It can be stopped and started again: the port stays, and so does everything in the database.

    Args:
        db_path: The SQLite file, which is created if it does not exist.
        port: The port on 127.0.0.1; 0 takes a free one.
        settings: Credentials, schema and the like.

    Attributes:
        faults: The faults to apply to requests.
        settings: The settings as given.
    """

    def __init__(self, db_path: str | Path, port: int = 0, *, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        super().__init__(db_path, self.settings.schema)
        self.faults = Faults()
        self._port = port
        self._running: _Running | None = None

    def start(self) -> Self:
        """Start it; requests are answered when this returns.

        Raises:
            InvalidInput: The web framework is not installed, or the port or the database can't be
                used.
        """
        if self._running is None:
            running = _Running(self.path, self._port, self.settings, self.faults)
            self._port = running.port
            running.start()
            self._running = running
        return self

    def stop(self) -> None:
        """Stop it: finish requests under way, but drop those that a fault delays."""
        running, self._running = self._running, None
        if running is not None:
            running.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def port(self) -> int:
        """The port it listens on; 0 before the first start if none was asked for."""
        return self._port

    @property
    def url(self) -> str:
        """The environment's URL, ``http://127.0.0.1:<port>``, without a slash at the end."""
        return f"http://{_HOST}:{self._port}"

    @property
    def api_url(self) -> str:
        """The Web API's service root, with a slash at the end."""
        return f"{self.url}{API_ROOT}"

    @property
    def token_url(self) -> str:
        """The token endpoint."""
        return f"{self.url}/{self.settings.tenant_id}/oauth2/v2.0/token"

    def issue_token(self) -> str:
        """Return a bearer token without a request. The simulator must be running.

        Raises:
            InvalidInput: The simulator is not running.
        """
        if self._running is None:
            raise InvalidInput("the simulator is not running: start it first")
        return self._running.app.tokens.issue()


def serve(
    db_path: str | Path,
    port: int = 0,
    *,
    settings: Settings | None = None,
    faults: Faults | None = None,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Run a simulator in this process until SIGTERM or SIGINT, then return. It prints nothing.

    Args:
        db_path: The SQLite file, which is created if it does not exist.
        port: The port on 127.0.0.1; 0 takes a free one.
        settings: Credentials, schema and the like.
        faults: The first faults; more can be armed at ``/_simulator/faults``.
        on_ready: Called with the URL once requests are answered.

    Raises:
        InvalidInput: The web framework is not installed, or the port or the database can't be used.
    """
    running = _Running(Path(db_path), port, settings or Settings(), faults or Faults())
    url = f"http://{_HOST}:{running.port}"
    with _signals_caught():
        running.run(lambda: on_ready(url) if on_ready else None)


class _Running:
    """One run of a server: its socket, its application, and its thread if it has one."""

    def __init__(self, path: Path, port: int, settings: Settings, faults: Faults) -> None:
        with requires_extra("the simulator", "simulator"):
            from writeahead.simulators.dataverse import app, server
        self._serve = server.Server
        self._server: Server | None = None
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self._socket = _listen(port)
        self.port: int = self._socket.getsockname()[1]
        try:
            self.app = app.SimulatorApp(path, settings, faults)
        except BaseException:
            self._socket.close()
            raise

    def run(self, on_started: Callable[[], None]) -> None:
        """Serve until `stop` is called."""
        self._server = self._serve(self.app, on_started)
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self._socket.close()
            self.app.close()

    def start(self) -> None:
        """Serve in a thread, and return when requests are answered."""
        ready = threading.Event()

        def run() -> None:
            try:
                self.run(ready.set)
            except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
                self._failure = error
            finally:
                ready.set()

        self._thread = threading.Thread(target=run, name="writeahead-simulator", daemon=True)
        self._thread.start()
        ready.wait()
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Stop the thread; returns when the port and the database are closed."""
        if self._server is not None and self._thread is not None:
            self._server.stop()
            self._thread.join()


def _listen(port: int) -> socket.socket:
    if not 0 <= port <= _LARGEST_PORT:
        raise InvalidInput(f"port {port} does not exist: give 0 to {_LARGEST_PORT}")
    # With the protocol named: asyncio turns Nagle's algorithm off only where it sees TCP, and with
    # it on, each reply with a body waits 40 ms for the client to acknowledge its head.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        # Without it, a port that was just in use stays taken for a minute. On Windows it would let
        # two servers listen on one port: asyncio's create_server leaves it out there, too.
        if os.name == "posix":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((_HOST, port))
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise InvalidInput(f"the simulator can't listen on port {port}: {error.strerror}") from None
    return listening


@contextlib.contextmanager
def _signals_caught() -> Iterator[None]:
    """Let the server end by SIGTERM or SIGINT without the process ending by it.

    uvicorn catches both, stops, puts back the handlers that it found and raises the signal again:
        for these.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ignore(_number: int, _frame: FrameType | None) -> None:
        """Do nothing: the server has handled the signal."""

    found = {number: signal.signal(number, ignore) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in found.items():
            signal.signal(number, handler)
