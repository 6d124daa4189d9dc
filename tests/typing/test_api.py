"""``api.py`` uses every public name; the lint and types sessions check it by mypy and pyright."""

import ast
from pathlib import Path

import pytest

import writeahead
import writeahead.testing

TREE = ast.parse((Path(__file__).parent / "api.py").read_text())


@pytest.mark.parametrize("module", [writeahead, writeahead.testing], ids=lambda module: module.__name__)
def test_every_public_name_is_type_checked(module):
    imported = {
        alias.name
        for node in TREE.body
        if isinstance(node, ast.ImportFrom) and node.module == module.__name__
        for alias in node.names
    }
    used = {node.id for node in ast.walk(TREE) if isinstance(node, ast.Name)}
    # The version is asked for by its name, as of any package, and is no name that * imports.
    assert imported - {"__version__"} == set(module.__all__)
    assert imported <= used
