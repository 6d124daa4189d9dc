"""Every code block of every page runs as a reader would run it, or says why it can't run here."""

import pytest
from markdown_it import MarkdownIt

from tests.support.doc_blocks import PAGES, ROOT, Failed, Reader, blocks_of
from writeahead.errors import InvalidInput


def code_of(page):
    """The blocks of code that a page shows, by CommonMark's rules: first line and language."""
    tokens = MarkdownIt("commonmark").parse(page.read_text())
    return [
        (token.map[0] + 1, token.info.split(" ")[0] if token.type == "fence" else "indented")
        for token in tokens
        if token.type in ("fence", "code_block")
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_of_a_page_runs(page, tmp_path):
    folder = tmp_path / "reader"
    folder.mkdir()
    with Reader(folder) as reader:
        reader.read(page)
    for line, reason in reader.skipped.items():
        print(f"{page.relative_to(ROOT)}:{line}: skipped: {reason}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_block_of_a_page_is_left_out(page):
    assert blocks_of(page) == code_of(page)


def read(tmp_path, text):
    page = tmp_path / "page.md"
    page.write_text(text)
    folder = tmp_path / "reader"
    folder.mkdir()
    with Reader(folder) as reader:
        reader.read(page)
    return reader


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("```console\n$ echo one\ntwo\n```", "Expected:"),
        ("```console\n$ echo one\n```", "Expected nothing"),
        ("```console\n$ false\n$ echo on\non\n```", "false: exit code 1"),
        ("```console\necho one\n```", "begins with"),
        ("```sh\nfalse\ntrue\n```", "exit code 1"),
        ("```python\nassert False\n```", "AssertionError"),
        ("```python\nimport warnings\nwarnings.warn('old')\n```", "UserWarning"),
        ("```\nx\n```", "no language"),
        ("```yaml\nx: 1\n```", "yaml"),
        ("```json\n[]\n```", "which file"),
        ("<!-- file: session.json -->\n```json\n[]\n```", "not a session"),
        ("<!-- file: writeahead.toml -->\n```toml\nstor = 1\n```", "unknown key"),
        ("<!-- file: mapping.toml -->\n```toml\nx = 1\n```", "mapping"),
        ("<!-- excerpt: LICENSE -->\n```python\nx = 1\n```", "does not stand in LICENSE"),
        ("<!-- terminal: up -->\n```sh\necho down\n```", "did not print up"),
        ("<!-- file: a.json -->\n", "no block follows"),
        ("```sh\nmkdir a && touch a/b a/c\n```\n<!-- tree: a -->\n```text\na/\n└── b  a file\n```", "'c'"),
        ("```sh\nmkdir a\n```\n<!-- tree: a -->\n```text\na/\n└── b/\n    └── c\n```", "has not .'b/c'"),
    ],
)
def test_a_block_that_does_not_do_what_it_says_is_found(tmp_path, text, why):
    with pytest.raises((Failed, InvalidInput), match=why):
        read(tmp_path, text + "\n")


def test_a_reader_goes_through_a_page_from_top_to_bottom(tmp_path):
    text = """
<!-- start: empty -->
<!-- file: server.py -->
```python
import time
print("export COLOUR=blue", flush=True)
time.sleep(60)
```
<!-- terminal: COLOUR -->
```sh
python server.py
```
```console
$ ls
server.py
$ echo $COLOUR && date +%Y-%m-%d
blue
20...
$ (exit 75)
$ echo $?
75
$ mkdir -p tree/some && touch tree/a tree/some/b tree/some/c
```
<!-- tree: tree -->
```text
tree/
├── a       a file, with a note
│           that goes on
└── some/
    ├── b
    └── ...
```
<!-- skip: next "there is no such program" -->
```sh
no-such-program
```
"""
    assert read(tmp_path, text).skipped == {34: "there is no such program"}


def test_a_block_that_is_not_fenced_is_missed(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("Text.\n\n    indented\n\n```sh\ntrue\n```\n")
    assert (blocks_of(page), code_of(page)) == ([(5, "sh")], [(3, "indented"), (5, "sh")])
