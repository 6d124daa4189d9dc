"""README shows the examples and the command line as they are; what the docs name exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_the_code_in_readme_stands_in_the_quickstart():
    quickstart = (ROOT / "examples/quickstart.py").read_text().splitlines()
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    shown = [line for block in blocks for line in block.splitlines()]
    assert len(shown) > 10
    assert [line for line in shown if line not in quickstart] == []


def test_every_link_in_the_documents_leads_to_a_file():
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
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


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_files_that_a_page_names_exist(page):
    named = re.findall(r"(?<![\w/-])((?:tests|examples|src|benchmarks)/[\w./-]*\w)", page.read_text())
    assert [path for path in named if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_tests_that_a_page_names_exist(page):
    defined = {
        name
        for path in (ROOT / "tests").rglob("*.py")
        for name in re.findall(r"^\s*def (test_\w+)\(", path.read_text(), re.MULTILINE)
    }
    files = {path.stem for path in (ROOT / "tests").rglob("*.py")}
    named = re.findall(r"(?:`|::)(test_\w+)`", page.read_text())
    assert [name for name in named if name not in defined | files] == []
