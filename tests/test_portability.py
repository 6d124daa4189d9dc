"""The package on a system without POSIX's calls: it can be loaded, and calls none of them."""

import os
import subprocess
import sys

import pytest

from tests.support.windows import MODULES, environment
from writeahead.cli import permissions
from writeahead.errors import InvalidInput
from writeahead.protocol import liveness
from writeahead.protocol.schema import Holder
from writeahead.report.page import quoted

# Loads every module; one whose extra is not installed is left out.
IMPORT_ALL = f"""
import importlib, pkgutil, sys
import writeahead
names = [module.name for module in pkgutil.walk_packages(writeahead.__path__, "writeahead.")]
for name in names:
    if name in ("writeahead.__main__", "writeahead.stores.durable"):
        continue
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name.split(".")[0] in ("writeahead", *{MODULES}):
            raise
print(len(names), "writeahead.stores.durable" in sys.modules)
"""


@pytest.mark.skipif(os.name == "nt", reason="an imitation, which is not needed on Windows")
def test_every_module_can_be_loaded_without_posix(tmp_path):
    environ = environment(tmp_path, tmp_path / "root")
    command = [sys.executable, "-c", IMPORT_ALL]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    count, durable = done.stdout.split()
    assert int(count) > 100
    assert durable == "False"


def test_no_process_is_looked_for_where_that_would_end_it(monkeypatch):
    """On Windows os.kill(pid, 0) ends a process; and a folder named proc may be there."""
    holder = liveness.this_process()
    asked = []
    monkeypatch.setattr(os, "kill", lambda pid, number: asked.append(pid))
    monkeypatch.setattr(sys, "platform", "win32")
    liveness._process.cache_clear()
    assert liveness.this_process() is None
    assert not liveness.is_dead(holder)
    gone = Holder(host="h", boot_id="b", pid_namespace="n", pid=2**22 + 1, started="1")
    assert not liveness.is_dead(gone)
    assert asked == []
    monkeypatch.undo()
    liveness._process.cache_clear()


@pytest.mark.skipif(os.name == "nt", reason="there are no mode bits")
def test_mode_bits_are_no_permissions_without_users(monkeypatch, tmp_path):
    """There every file that may be written has 0666, and every folder 0777."""
    file = tmp_path / "writeahead.toml"
    with pytest.raises(InvalidInput, match="every user may write to it"):
        permissions.checked_code_source(file, 0o100666)
    tmp_path.chmod(0o777)
    assert permissions.shared_folder(tmp_path)
    monkeypatch.delattr(os, "geteuid")
    assert permissions.checked_code_source(file, 0o100666) is None
    assert permissions.shared_folder(tmp_path) is None
    tmp_path.chmod(0o700)


def test_a_word_of_a_proposed_command_is_quoted_as_the_shell_wants_it():
    word = r"C:\my artifacts"
    assert quoted(word, windows=True) == r'"C:\my artifacts"'
    assert quoted(word, windows=False) == r"'C:\my artifacts'"
    assert quoted("./artifacts", windows=True) == quoted("./artifacts", windows=False) == "./artifacts"
