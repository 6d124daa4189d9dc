"""The pytest plugin: an entry point of the group ``pytest11``. docs/testing.md shows its use.

pytest loads it in every run on a machine that has writeahead installed. So it imports nothing of
writeahead, and no other library, before a test asks for a fixture or a contract was tried.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from writeahead.stores.base import ArtifactStore
    from writeahead.testing import FaultInjector, ManualClock

_STORES = ("memory", "folder")
_MARKER = "writeahead_store"
_MARKER_HELP = (
    f"{_MARKER}(kind, all_finished=False): the store of a test, memory or folder;"
    " with all_finished the test fails if it leaves a session open"
)
# As in writeahead.testing.summary, which is loaded only where one of them is there.
_CONTRACTS = ("adapter_contract", "store_contract")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Offer the choice of a store for all tests."""
    about = "where writeahead_store keeps its artifacts: memory (default) or folder"
    group = parser.getgroup("writeahead")
    group.addoption("--writeahead-store", choices=_STORES, default=None, help=about)
    parser.addini("writeahead_store", about, default="memory")


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known to ``--strict-markers``."""
    config.addinivalue_line("markers", _MARKER_HELP)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print what the contract kits found, if one was run."""
    reports = (report for found in terminalreporter.stats.values() for report in found)
    if any(name in _CONTRACTS for one in reports for name, _ in getattr(one, "user_properties", ())):
        from writeahead.testing import summary

        summary.pytest_terminal_summary(terminalreporter)


@pytest.fixture
def writeahead_store(_writeahead_faults: "FaultInjector") -> "ArtifactStore":
    """Give a new, empty store; `writeahead_faults` lets it fail.

    It is in memory, or with ``--writeahead-store=folder``, the ini option ``writeahead_store =
    folder`` or ``@pytest.mark.writeahead_store("folder")`` in a folder below ``tmp_path``. The
    nearest marker counts before the option, the option before the ini. ``store.name`` is a URL that
    `open_store` opens to the same artifacts, in memory in this process only.

    ``@pytest.mark.writeahead_store(all_finished=True)`` fails the test if it leaves a session that
    is neither completed nor abandoned::

        @pytest.mark.writeahead_store("folder", all_finished=True)
        def test_a_call_is_recorded(writeahead_store):
            record("call-7", store=writeahead_store)
    """
    return _writeahead_faults.store


@pytest.fixture
def writeahead_clock() -> "ManualClock":
    """Give a clock whose hours pass in no time: for ``clock=`` of `write_back` and the others.

    Waits between attempts end at once, and are kept in ``slept``. A lease ends when the test says
    so::

        def test_another_process_takes_over(writeahead_store, writeahead_clock, writeahead_faults):
            with writeahead_faults.kill():
                record("call-7", store=writeahead_store, clock=writeahead_clock)
            writeahead_clock.advance(3600)
            assert resume("call-7", store=writeahead_store, clock=writeahead_clock).ok
    """
    from writeahead.testing import ManualClock

    return ManualClock()


@pytest.fixture
def writeahead_faults(_writeahead_faults: "FaultInjector") -> "Iterator[FaultInjector]":
    """Give what plans faults at `writeahead_store` and on the way to a remote.

    The test fails if a fault was planned and never came::

        def test_a_lost_reply(writeahead_store, writeahead_faults, crm):
            adapter = MyAdapter(writeahead_faults.proxy(crm.url).url)
            writeahead_faults.lost_reply()
            assert record("call-7", store=writeahead_store, adapter=adapter).ok
            assert len(crm.rows) == 1
    """
    yield _writeahead_faults
    missing = _writeahead_faults.pending
    if missing:
        pytest.fail(f"planned, and it never came: {', '.join(missing)}", pytrace=False)


@pytest.fixture
def _writeahead_faults(request: pytest.FixtureRequest) -> "Iterator[FaultInjector]":
    """The store of a test, and what can go wrong; the fixtures above share it."""
    import uuid

    from writeahead import open_store
    from writeahead.testing import FaultInjector

    kind, all_finished = _asked(request)
    folder = request.getfixturevalue("tmp_path") / "writeahead" if kind == "folder" else None
    store = open_store(folder or f"memory://pytest-{uuid.uuid4().hex}")
    faults = FaultInjector(store)
    try:
        yield faults
        if all_finished:
            _require_all_finished(store)
    finally:
        faults.close()
        if folder is None:  # a store in memory has its name until the process ends
            for info in list(store.list()):
                store.delete(info.key)


def _asked(request: pytest.FixtureRequest) -> tuple[str, bool]:
    """Which store a test asks for, and whether no session may be left open."""
    config = request.config
    kind = config.getoption("--writeahead-store") or config.getini("writeahead_store")
    all_finished = False
    # From the module to the test, so that the nearest one has the last word.
    for marker in reversed(list(request.node.iter_markers(_MARKER))):
        kind = marker.args[0] if marker.args else kind
        all_finished = marker.kwargs.get("all_finished", all_finished)
        if len(marker.args) > 1 or set(marker.kwargs) - {"all_finished"}:
            raise pytest.UsageError(f"the marker is {_MARKER_HELP}")
    if kind not in _STORES:
        raise pytest.UsageError(f"writeahead_store is {kind!r}: use one of {', '.join(_STORES)}")
    return kind, all_finished


def _require_all_finished(store: "ArtifactStore") -> None:
    from writeahead import find_sessions

    # From the full listing: one whose marker was lost is open, too.
    found = [one for one in find_sessions(store) if one.status not in ("completed", "abandoned")]
    if found:
        said = ", ".join(f"{one.session_id} ({one.status or one.note})" for one in found)
        pytest.fail(f"sessions that the test left open: {said}", pytrace=False)
