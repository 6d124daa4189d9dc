"""README shows the examples and the command line as they are; what the docs name exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PAGES = [
    *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "SECURITY")),
    *sorted((ROOT / "docs").rglob("*.md")),
]


def test_the_code_in_readme_stands_in_the_quickstart():
    quickstart = (ROOT / "examples/quickstart.py").read_text().splitlines()
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    shown = [line for block in blocks for line in block.splitlines()]
    assert len(shown) > 10
    assert [line for line in shown if line not in quickstart] == []


def test_every_link_in_the_documents_leads_to_a_file():
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize(
    "line", [line.strip() for line in README.splitlines() if line.startswith("    writeahead ")]
)
def test_every_command_line_in_readme_is_understood(line):
    from writeahead.cli.app import app

    arguments = [word.strip('"') for word in re.findall(r'"[^"]*"|\S+', line.split("#")[0])][1:]
    # --help is looked at last: unknown options and commands before it would be refused.
    assert app([*arguments, "--help"], standalone_mode=False, prog_name="writeahead") in (0, None)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_files_that_a_page_names_exist(page):
    named = re.findall(r"(?<![\w/-])((?:tests|examples|src|benchmarks)/[\w./-]*\w)", page.read_text())
    assert [path for path in named if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_tests_that_a_page_names_exist(page):
    defined = {
        name
        for folder in ("tests", "examples")
        for path in (ROOT / folder).rglob("*.py")
        for name in re.findall(r"^\s*def (test_\w+)\(", path.read_text(), re.MULTILINE)
    }
    files = {path.stem for path in (ROOT / "tests").rglob("*.py")}
    named = re.findall(r"(?:`|::)(test_\w+)`", page.read_text())
    assert [name for name in named if name not in defined | files] == []


def test_the_drawing_of_the_rooms_names_each_of_them():
    drawing = (ROOT / "docs/architecture.md").read_text().split("## The way of one operation")[0]
    package = ROOT / "src/writeahead"
    rooms = {path.stem for path in package.iterdir() if not path.name.startswith(("_", "py.typed"))}
    modules = {path.stem for path in (package / "protocol").glob("[!_]*.py")}
    named = set(re.findall(r"\w+", drawing))
    assert sorted((rooms | modules) - named) == []


@pytest.mark.parametrize("page", [*PAGES, ROOT / ".github/workflows/checks.yml"], ids=lambda page: page.stem)
def test_the_nox_sessions_that_a_page_names_exist(page):
    sessions = re.findall(
        r"^def (\w+)\(session: nox\.Session\)", (ROOT / "noxfile.py").read_text(), re.MULTILINE
    )
    named = re.findall(r"nox -s (\w+)", page.read_text())
    assert [name for name in named if name not in sessions] == []


def test_the_workflow_runs_every_python_that_nox_knows():
    pythons = re.search(r"PYTHONS = (\[.*\])", (ROOT / "noxfile.py").read_text())[1]
    assert f"python: {pythons}" in (ROOT / ".github/workflows/checks.yml").read_text()
