"""The command line, in this process or one of its own, in a folder with a remote to write to."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.crm import serving
from tests.support.processes import child_environment
from writeahead.cli import main

ADAPTER = "tests.support.crm:CrmAdapter"


@dataclass
class Done:
    """What a command left: its exit code, and the bytes of its two streams as text."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


class Cli:
    """Runs commands in this process, in a folder whose settings name the remote's adapter."""

    def __init__(self, folder, capsys):
        self.folder = folder
        self.store = folder / "artifacts"
        self.capsys = capsys

    def __call__(self, *arguments):
        code = main([str(argument) for argument in arguments])
        out, err = self.capsys.readouterr()
        return Done(int(code), out, err)

    def session(self, *kinds, session_id="s1", name="session.json", **more):
        operations = [{"kind": kind, "payload": {"text": f"{n} {kind}"}} for n, kind in enumerate(kinds, 1)]
        return self.file(json.dumps({"session_id": session_id, "operations": operations, **more}), name)

    def file(self, content, name="session.json"):
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def adapter(self, name, code, url):
        """Write the module of an adapter, ``module:factory``, and its table in the settings."""
        self.file(code, f"{name.partition(':')[0]}.py")
        with (self.folder / "writeahead.toml").open("a") as settings:
            settings.write(f'[adapters."{name}"]\nurl = "{url}"\n')

    def bytes_in_store(self):
        """Every file below the store's folder, read around the store."""
        return {
            str(path.relative_to(self.store)): path.read_bytes()
            for path in self.store.rglob("*")
            if path.is_file()
        }


@pytest.fixture
def remote():
    with serving() as crm:
        yield crm


@pytest.fixture
def settings(remote):
    """The text of writeahead.toml: a store, an adapter, and no long waits."""
    return (
        f'store = "./artifacts"\nadapter = "{ADAPTER}"\n'
        f"[policy]\nattempts = 2\nwait_initial = 0.01\nclock_skew = 0.1\n"
        f'[adapters."{ADAPTER}"]\nurl = "{remote.url}"\n'
    )


@pytest.fixture
def folder(tmp_path, monkeypatch, settings):
    """The working directory of the commands, with those settings."""
    monkeypatch.chdir(tmp_path)
    for name in ("STORE", "ADAPTER", "CONFIG", "DEBUG"):
        monkeypatch.delenv(f"WRITEAHEAD_{name}", raising=False)
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    (tmp_path / "writeahead.toml").write_text(settings)
    return tmp_path


@pytest.fixture
def cli(folder, capsys):
    return Cli(folder, capsys)


@pytest.fixture
def start(folder):
    """Starts ``python -m writeahead`` in the folder; what still runs in the end is killed."""
    started = []

    def start(*arguments, **more):
        environment = child_environment(**{"COLUMNS": "80", **more.pop("env", {})})
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "writeahead", *map(str, arguments)],
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment} | more,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()
