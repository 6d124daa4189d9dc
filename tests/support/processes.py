"""The command line as a process of its own."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
# The package of this tree, and these tests, whatever is installed.
PYTHONPATH = f"{ROOT / 'src'}:{ROOT}"


def finished(process):
    """Wait for a process; return its exit code and what it printed on both streams."""
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err
