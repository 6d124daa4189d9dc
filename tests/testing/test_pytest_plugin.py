"""The pytest plugin as pytest itself loads it: by its entry point, in a process of its own."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path
from types import SimpleNamespace

import pytest

import writeahead
from writeahead import _pytest_plugin
from writeahead.testing import summary

ROOT = Path(__file__).parents[2]
IS_FULL = os.environ.get("WRITEAHEAD_TESTS") == "full"
INI = """
[pytest]
addopts = -rA --strict-markers --strict-config -p no:cacheprovider
filterwarnings = error
writeahead_store = folder
"""
# The first one comes before any fixture of the plugin.
TESTS = """
import sys

import pytest

ROW = [{"kind": "row", "payload": {"text": "call back"}}]


def test_nothing_is_imported(pytestconfig):
    assert pytestconfig.pluginmanager.has_plugin("writeahead")
    ours = {name for name in sys.modules if name.partition(".")[0] == "writeahead"}
    assert ours == {"writeahead", "writeahead._pytest_plugin"}


def test_of_a_contract(record_property):
    record_property("store_contract", "TestMine")


def is_folder(store):
    from writeahead import open_store

    store.put("a", b"1")
    assert open_store(store.name).get("a").data == b"1"
    assert store.name.startswith(("file://", "memory://"))
    return store.name.startswith("file://")


def test_the_store_of_all(writeahead_store, tmp_path):
    assert list(writeahead_store.list()) == []
    assert is_folder(writeahead_store) is ALL_IN_FOLDERS
    assert bool(list(tmp_path.rglob("a"))) is ALL_IN_FOLDERS


@pytest.mark.writeahead_store("memory")
class TestOfAClass:
    seen = []

    def test_its_marker(self, writeahead_store):
        assert not is_folder(writeahead_store)
        self.seen.append(writeahead_store.name)

    def test_a_store_of_its_own(self, writeahead_store):
        from writeahead import open_store

        assert list(writeahead_store.list()) == []
        (before,) = self.seen
        assert list(open_store(before).list()) == []

    @pytest.mark.writeahead_store("folder")
    def test_the_nearest_marker(self, writeahead_store):
        assert is_folder(writeahead_store)

    @pytest.mark.writeahead_store(all_finished=True)
    def test_what_one_marker_leaves_open(self, writeahead_store):
        assert not is_folder(writeahead_store)


def adapter_of(writeahead_faults):
    from writeahead import Adapter, emits

    class Rows(Adapter):
        name = "rows"

        @emits("unprovable")
        def emit_row(self, payload: dict[str, str], operation) -> None:
            pass

    return writeahead_faults.adapter(Rows())


def run(store, faults, clock):
    from writeahead import write_back

    return write_back(ROW, session_id="s1", store=store, adapter=adapter_of(faults), clock=clock)


def test_the_three_together(writeahead_store, writeahead_clock, writeahead_faults):
    writeahead_faults.unavailable(retry_after=60)
    assert run(writeahead_store, writeahead_faults, writeahead_clock).status == "completed"
    assert writeahead_clock.slept == [60]
    assert writeahead_faults.store is writeahead_store


@pytest.mark.writeahead_store(all_finished=True)
def test_all_are_finished(writeahead_store, writeahead_clock, writeahead_faults):
    assert run(writeahead_store, writeahead_faults, writeahead_clock).status == "completed"


def test_one_may_be_left_open(writeahead_store, writeahead_clock, writeahead_faults):
    writeahead_faults.lost_reply()
    assert run(writeahead_store, writeahead_faults, writeahead_clock).status == "blocked"


@pytest.mark.writeahead_store(all_finished=True)
def test_error_left_open(writeahead_store, writeahead_clock, writeahead_faults):
    writeahead_faults.lost_reply()
    assert run(writeahead_store, writeahead_faults, writeahead_clock).status == "blocked"
    for marker in (".open/s1", ".blocked/s1"):
        writeahead_store.delete(marker)


def test_error_never_came(writeahead_store, writeahead_faults):
    writeahead_faults.lost_reply(2)


@pytest.mark.writeahead_store("bucket")
def test_error_other_kind(writeahead_store):
    pass


@pytest.mark.writeahead_store(finished=True)
def test_error_other_keyword(writeahead_store):
    pass
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The environment of a machine on which the entry points of pyproject.toml are installed."""
    folder = tmp_path_factory.mktemp("site")
    info = folder / "writeahead_as_installed-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: writeahead_as_installed\nVersion: 0\n")
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    (name,) = groups["pytest11"]
    (info / "entry_points.txt").write_text(f"[pytest11]\n{name} = {groups['pytest11'][name]}\n")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    paths = [str(folder), str(ROOT / "src"), kept.get("PYTHONPATH")]
    return kept | {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "COLUMNS": "200"}


def run_pytest(folder, environ, *options, in_folders=True):
    (folder / "pytest.ini").write_text(INI)
    (folder / "test_it.py").write_text(f"ALL_IN_FOLDERS = {in_folders}\n{TESTS}")
    # Those of others cost more than all that is tried here.
    others = [point.name for point in entry_points(group="pytest11") if point.name != "writeahead"]
    blocked = [f"-pno:{name}" for name in others if not ("-n" in options and name == "xdist")]
    command = [sys.executable, "-m", "pytest", f"--basetemp={folder / 'run'}", *blocked, *options]
    done = subprocess.run(
        command, cwd=folder, env=environ, capture_output=True, text=True, timeout=120, check=False
    )
    return done.stdout + done.stderr


def outcomes_of(output):
    return {
        outcome: {
            re.sub(r".*::", "", test) for test in re.findall(rf"^{outcome} (\S+)", output, re.MULTILINE)
        }
        for outcome in ("PASSED", "FAILED", "ERROR")
    }


GOOD = set(re.findall(r"def (test_(?!error)\w+)", TESTS))
BAD = set(re.findall(r"def (test_error\w+)", TESTS))
# Their tests pass, and the end of the fixture does not.
AT_THE_END = {"test_error_left_open", "test_error_never_came"}


def test_its_module_imports_pytest_alone():
    tree = ast.parse(Path(_pytest_plugin.__file__).read_text())
    imported = {node.module for node in tree.body if isinstance(node, ast.ImportFrom)}
    imported |= {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
    assert imported == {"collections.abc", "typing", "pytest"}
    tree = ast.parse(Path(writeahead.__file__).read_text())
    assert not any(isinstance(node, ast.ImportFrom) and node.module != "typing" for node in tree.body)


def test_pytest_loads_it_by_itself(installed, tmp_path):
    output = run_pytest(tmp_path, installed)
    assert outcomes_of(output) == {"PASSED": GOOD | AT_THE_END, "FAILED": set(), "ERROR": BAD}, output
    for line in (
        r"sessions that the test left open: s1 \(blocked\)",
        r"planned, and it never came: lost_reply\(nth=2\)",
        r"writeahead_store is 'bucket': use one of memory, folder",
        r"the marker is writeahead_store\(kind, all_finished=False\)",
        r"^TestMine: 1 run, 1 passed; 0 impossible$",
    ):
        assert re.search(line, output, re.MULTILINE), line


def test_the_option_goes_before_the_ini():
    config = SimpleNamespace(getoption=lambda _name: "memory", getini=lambda _name: "folder")
    request = SimpleNamespace(config=config, node=SimpleNamespace(iter_markers=lambda _name: []))
    assert _pytest_plugin._asked(request) == ("memory", False)
    config.getoption = lambda _name: None
    assert _pytest_plugin._asked(request) == ("folder", False)


def test_the_summary_is_printed_once_however_often_it_is_asked_for():
    report = SimpleNamespace(user_properties=[("store_contract", "TestMine")], longrepr=None)
    lines = []
    reporter = SimpleNamespace(
        stats={"passed": [report]},
        config=SimpleNamespace(stash=pytest.Stash()),
        section=lines.append,
        write_line=lines.append,
    )
    _pytest_plugin.pytest_terminal_summary(reporter)
    summary.pytest_terminal_summary(reporter)
    assert lines == ["store contract", "TestMine: 1 run, 1 passed; 0 impossible"]


if IS_FULL:

    def test_the_option_and_the_summary_with_workers(installed, tmp_path):
        chosen = ("-k", "not error and not imported")
        options = ("--writeahead-store=memory", "-p", summary.__name__, "-n", "2", *chosen)
        output = run_pytest(tmp_path, installed, *options, in_folders=False)
        # Its predecessor may run in another worker.
        expected = GOOD - {"test_nothing_is_imported", "test_a_store_of_its_own"}
        assert expected <= outcomes_of(output)["PASSED"], output
        assert output.count("TestMine: 1 run") == 1

    def test_without_it_there_are_no_fixtures(installed, tmp_path):
        output = run_pytest(tmp_path, installed, "-p", "no:writeahead", "-o", "addopts=-rA -W ignore")
        assert "fixture 'writeahead_store' not found" in output
        assert "TestMine" not in output
