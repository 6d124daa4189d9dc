"""What docs/adapters.md says of the Tryton adapter and of the example's contract is so."""

import re
import subprocess
import sys
from pathlib import Path

from tryton import TrytonAdapter

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/adapters.md").read_text()
EXAMPLE = ROOT / "examples/test_tiny_crm.py"


def test_the_kinds_of_tryton_are_those_in_the_table():
    shown = dict(re.findall(r"^\| `(\w+)` \| `(\w+)` \|", PAGE, re.MULTILINE))
    assert shown == {kind.name: str(kind.replay) for kind in TrytonAdapter.kinds.values()}


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
