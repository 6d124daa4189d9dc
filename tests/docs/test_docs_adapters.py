"""docs/adapters.md shows the Tryton adapter and the examples as they are, and they pass."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from tryton import TrytonAdapter

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/adapters.md").read_text()
EXAMPLE = ROOT / "examples/test_tiny_crm.py"
SHOWN = [ROOT / "examples/tryton/adapter.py", EXAMPLE, ROOT / "examples/test_tiny_desk.py"]
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.split("(")[0].split()[-1])
def test_each_block_of_code_stands_in_a_file(block):
    assert any(block in source.read_text() for source in SHOWN)


def test_the_kinds_of_tryton_are_those_in_the_table():
    shown = dict(re.findall(r"^\| `(\w+)` \| `(\w+)` \|", PAGE, re.MULTILINE))
    assert shown == {kind.name: str(kind.replay) for kind in TrytonAdapter.kinds.values()}


def test_the_commands_name_what_is_there():
    for path in re.findall(r"(?:pytest|--) .*?((?:tests|examples)/[\w/.]+)", PAGE):
        assert (ROOT / path).exists(), path
    assert "def peers(" in (ROOT / "noxfile.py").read_text()


def test_the_command_for_the_example_prints_its_table(tmp_path):
    # One part is enough here: the whole contract of the example is among the tests.
    options = ["-q", "-p", "writeahead.testing.summary", "-p", "no:cacheprovider", "-k", "clean"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, f"--basetemp={tmp_path / 'run'}", EXAMPLE],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert re.search(r"TestTinyCrm row \(upsert\) +[1-9]\d* +0 +0 +0 +0\n", done.stdout), done.stdout
