"""README shows the examples and the command line as they are; what the docs name exists."""

import re
import shlex

import pytest

from tests.support.doc_blocks import PAGES, ROOT

README = (ROOT / "README.md").read_text()


def _name(page):
    return str(page.relative_to(ROOT))


def test_the_code_in_readme_is_the_quickstart():
    assert f"```python\n{(ROOT / 'examples/quickstart.py').read_text()}```" in README


def test_every_link_in_the_documents_leads_to_a_file():
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def _command_lines():
    """In README's table, and in blocks for a shell, of which some can't run in a test."""
    yield from re.findall(r"`writeahead (\w[^`]+)`", README)
    for page in PAGES:
        for block in re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL):
            yield from re.findall(r"^writeahead (\w[^#>&\n]*)", block, re.MULTILINE)


@pytest.mark.parametrize("line", sorted(set(_command_lines())))
def test_every_command_line_is_understood(line):
    from writeahead.cli.app import app

    # --help is looked at last: unknown options and commands before it would be refused.
    assert app([*shlex.split(line), "--help"], standalone_mode=False, prog_name="writeahead") in (0, None)


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_the_files_that_a_page_names_exist(page):
    named = re.findall(r"(?<![\w/-])((?:tests|examples|src|benchmarks)/[\w./-]*\w)", page.read_text())
    assert [path for path in named if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=_name)
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


@pytest.mark.parametrize("page", [*PAGES, ROOT / ".github/workflows/checks.yml"], ids=_name)
def test_the_nox_sessions_that_a_page_names_exist(page):
    sessions = re.findall(
        r"^def (\w+)\(session: nox\.Session\)", (ROOT / "noxfile.py").read_text(), re.MULTILINE
    )
    named = re.findall(r"nox -s (\w+)", page.read_text())
    assert [name for name in named if name not in sessions] == []


def test_the_workflow_runs_every_python_that_nox_knows():
    pythons = re.search(r"PYTHONS = (\[.*\])", (ROOT / "noxfile.py").read_text())[1]
    assert f"python: {pythons}" in (ROOT / ".github/workflows/checks.yml").read_text()
