"""Hold the wheel and the sdist of a folder to the checkout that they were built from.

``python tests/release/contents.py dist``, as `nox -s build` calls it.
"""

import re
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path

ROOT = Path(__file__).parents[2]
# What the build back end adds to an sdist, and a wheel.
ADDED = {"PKG-INFO"}
RECORDS = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}


def main(folder: Path) -> None:
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    version = re.search(
        r'^__version__ = "(.+)"$', (ROOT / "src/writeahead/__init__.py").read_text(), re.MULTILINE
    )[1]
    require(wheel.name == f"writeahead-{version}-py3-none-any.whl", f"the wheel is {wheel.name}")
    require(sdist.name == f"writeahead-{version}.tar.gz", f"the sdist is {sdist.name}")
    files = in_git()
    compare(sdist.name, in_sdist(sdist), {name for name in files if is_released(name)} | ADDED)
    compare(wheel.name, in_wheel(wheel), expected_in_wheel(files, version))
    with zipfile.ZipFile(wheel) as archive:
        metadata = message_from_bytes(archive.read(f"writeahead-{version}.dist-info/METADATA"))
    require(metadata["Version"] == version, f"the metadata have version {metadata['Version']}")
    print(f"{wheel.name} and {sdist.name} hold what belongs into them, {len(files)} files looked at")


def in_git() -> set[str]:
    """All files of the checkout that Git would keep: nothing else may slip into a release."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return {name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()}


def is_released(name: str) -> bool:
    """Whether it belongs into an sdist: all but what is for this repository alone."""
    folders = ("src/", "tests/", "examples/", "benchmarks/", "docs/")
    single = (".md", "LICENSE", "noxfile.py", "pyproject.toml", ".gitignore", "Dockerfile", ".dockerignore")
    return name.startswith(folders) or ("/" not in name and name.endswith(single))


def expected_in_wheel(files: set[str], version: str) -> set[str]:
    package = {name.removeprefix("src/") for name in files if name.startswith("src/writeahead/")}
    sessions = {
        name.replace("examples/", "writeahead/demo/")
        for name in files
        if name.startswith("examples/sessions/")
    }
    return package | sessions | {f"writeahead-{version}.dist-info/{name}" for name in RECORDS}


def in_sdist(path: Path) -> set[str]:
    with tarfile.open(path) as archive:
        return {name.partition("/")[2] for name in archive.getnames()}


def in_wheel(path: Path) -> set[str]:
    with zipfile.ZipFile(path) as archive:
        return set(archive.namelist())


def compare(where: str, found: set[str], expected: set[str]) -> None:
    require(
        found == expected, f"{where} lacks {sorted(expected - found)}, and has {sorted(found - expected)}"
    )


def require(holds: bool, message: str) -> None:
    if not holds:
        sys.exit(f"error: {message}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
