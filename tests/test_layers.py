"""Which module may import which: each contract in pyproject.toml breaks when it should."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

pytest.importorskip("importlinter", reason="import-linter is not installed: see `nox -s lint`")

ROOT = Path(__file__).parents[1]
CONTRACTS = [
    contract["name"]
    for contract in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
]
# {a new module: what it imports}; then what the linter must say of it, under which contract.
PLANTS = {
    "leak": "import httpx, writeahead.stores.memory",
    "protocol/leak": "import httpx, writeahead.stores.local",
    "report/leak": "import rich, writeahead.adapters.registry, writeahead.simulators.dataverse",
    "testing/leak": "import jinja2, starlette",
    "engines/leak": "import distributed, opentelemetry",
    "simulators/leak": "import writeahead.protocol.runner, writeahead.model",
    "stores/leak_one": "import writeahead.stores.leak_two",
    "stores/leak_two": "import writeahead.stores.leak_one",
    "adapters/dataverse/leak": "",
    "adapters/dataverse/webapi/leak": "import writeahead.adapters.dataverse.mapping.tables",
    "adapters/dataverse/mapping/leak": "import httpx",
}
SAID = {
    "Rooms: imports run one way": [
        "- writeahead.leak",
        "writeahead.simulators.leak -> writeahead.protocol.runner",
    ],
    "No circles, in no room": ["No cycles are allowed in writeahead.stores."],
    "Protocol: one way": ["- writeahead.protocol.leak"],
    "Simulators are written without a look at the adapters that they test": [
        "writeahead.simulators.leak -> writeahead.model",
    ],
    "Dataverse: requests below, tables beside them, the readiness gate above both": [
        "- writeahead.adapters.dataverse.leak",
        "writeahead.adapters.dataverse.webapi.leak -> writeahead.adapters.dataverse.mapping.tables",
    ],
    "Dataverse: the mapping sends nothing": ["writeahead.adapters.dataverse.mapping.leak -> httpx"],
    "Backends are reached through the base and the registry": [
        "writeahead.leak -> writeahead.stores.memory",
        "writeahead.protocol.leak -> writeahead.stores.local",
    ],
    "Adapters and simulators are reached through the base, by the command line and by the demo": [
        "writeahead.report.leak -> writeahead.adapters.registry",
        "writeahead.report.leak -> writeahead.simulators.dataverse",
    ],
    "The core loads no client library": ["writeahead.protocol.leak -> httpx"],
    "The command line and the demo alone print for people": ["writeahead.report.leak -> rich"],
    "The HTML report alone is made of templates": ["writeahead.testing.leak -> jinja2"],
    "Each engine's library is loaded by its module alone": ["writeahead.engines.leak -> distributed"],
    "Telemetry alone knows OpenTelemetry": ["writeahead.engines.leak -> opentelemetry"],
    "Simulators alone serve HTTP with a framework": ["writeahead.testing.leak -> starlette"],
}


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What the linter says of a copy of the package with those modules, by contract."""
    copy = tmp_path_factory.mktemp("layers")
    shutil.copytree(ROOT / "src", copy / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    for module, source in PLANTS.items():
        (copy / f"src/writeahead/{module}.py").write_text(source + "\n")
    lint = "import sys; from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run(
        [sys.executable, "-c", lint, "--no-cache"],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy / "src"), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    report = done.stdout.split("Broken contracts\n", 1)[1]
    parts = {}
    name = None
    for line in report.splitlines():
        if line in CONTRACTS:
            name = line
        parts.setdefault(name, []).append(line)
    return {name: "\n".join(lines) for name, lines in parts.items()}


@pytest.mark.parametrize("name", CONTRACTS)
def test_a_planted_import_breaks_its_contract(said, name):
    assert [line for line in SAID[name] if line not in said.get(name, "")] == []
