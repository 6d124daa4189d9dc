"""Runs each code block of a Markdown page as a reader would, in a folder of the page's own.

Sybil finds the blocks and HTML comments that say what else there is to know of the next block; a
rendered page does not show them:

- ``<!-- file: NAME -->``: the reader saves it under this name. A later command uses it.
- ``<!-- excerpt: PATH -->``: it is a part of this file of the repository, which has tests.
- ``<!-- terminal: WORD -->``: it runs in a terminal of its own until the page ends. The reader
  goes on once it has printed a line with this word, and has set the variables that it prints.
- ``<!-- tree: FOLDER -->``: it is a drawing of this folder.
- ``<!-- start: empty -->``, before the first one: the reader has an empty folder, no checkout.
- ``<!-- skip: next "REASON" -->``: it can't run here (Sybil's own).
"""

import doctest
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path
from unittest import SkipTest

from sybil import Region, Sybil
from sybil.parsers.markdown import SkipParser
from sybil.parsers.markdown.lexers import DirectiveInHTMLCommentLexer, RawFencedCodeBlockLexer

from writeahead.adapters.dataverse import load_mapping
from writeahead.cli.session_file import read_json, read_session_file
from writeahead.cli.settings import load_settings

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(page for name in ("docs", "examples", "benchmarks") for page in (ROOT / name).rglob("*.md")),
    ]
)
# What a reader has in a checkout, and a command of a page may name.
_CHECKOUT = ("examples", "tests", "src", "benchmarks", "pyproject.toml")
# A port that pages name; here each page has one of its own.
_PORT = "8021"
_MARKS = "file|excerpt|terminal|tree|start"
_LANGUAGES = re.compile(r"(?P<language>\w*)[^\n]*\n")
# After each command of a terminal: its exit code, between two characters that no output has.
_END = "\x1e"
_PROMPT = "$ "
_OURS = ("WRITEAHEAD_", "DATAVERSE_", "AWS_", "PYTEST_", "COV_")


class Failed(AssertionError):
    """A block does not do what the page says."""


def blocks_of(page):
    """The blocks of a page, unevaluated, as Sybil sees them: first line (from 1) and language."""
    document = Sybil([_parse_blocks(None)]).parse(page)
    return [(example.line, example.parsed[0]) for example in document.examples()]


def _parse_blocks(evaluate):
    def parse(document):
        for region in RawFencedCodeBlockLexer(_LANGUAGES)(document):
            parsed = region.lexemes["language"], region.lexemes["source"]
            yield Region(region.start, region.end, parsed, evaluate)

    return parse


def _parse_marks(evaluate):
    def parse(document):
        for region in DirectiveInHTMLCommentLexer(_MARKS)(document):
            parsed = region.lexemes["directive"], region.lexemes["arguments"].strip()
            yield Region(region.start, region.end, parsed, evaluate)

    return parse


class Reader:
    """Someone who does what a page says, from its first block to its last.

    Attributes:
        skipped: The reasons of the blocks that could not run here, by line.
    """

    def __init__(self, folder):
        self.folder = folder
        self.skipped = {}
        self._home = folder.parent / f"{folder.name}-home"
        self._home.mkdir()
        self._mark = None
        self._terminals = []
        self._variables = {}
        self._port = str(_free_port())
        self._has_checkout = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self._terminals:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()

    def read(self, page):
        """Do what all blocks of a page say. Raises: Failed, or what a loader says of a file."""
        parsers = [_parse_blocks(self._block), _parse_marks(self._marked), SkipParser()]
        for example in Sybil(parsers).parse(page).examples():
            try:
                example.evaluate()
            except SkipTest as skip:
                self.skipped[example.line] = str(skip)
            except Exception as error:
                error.add_note(f"{page}, line {example.line}")
                raise
        if self._mark:
            raise Failed(f"{page}: no block follows {self._mark}")

    def _marked(self, example):
        if self._mark:
            raise Failed(f"no block follows {self._mark}")
        if example.parsed == ("start", "empty"):
            self._has_checkout = True  # nothing is linked
        else:
            self._mark = example.parsed

    def _block(self, example):
        language, source = example.parsed
        source = source.replace(_PORT, self._port)
        (mark, argument), self._mark = self._mark or (None, ""), None
        self._link_checkout()
        if mark == "excerpt":
            _require(_is_part(source, ROOT / argument), f"this does not stand in {argument}")
        elif mark == "terminal":
            self._open_terminal(source, argument)
        elif language == "text":
            if mark == "tree":
                _compare_tree(source, self.folder / argument)
        elif language == "console":
            self._converse(source)
        elif language == "sh":
            self._run(["bash", "-eu", "-c", source])
        elif language == "python":
            (self.folder / (argument or "block.py")).write_text(source)
            if mark != "file":
                self._run([sys.executable, "-W", "error", "block.py"])
        elif language in ("toml", "json"):
            _require(mark == "file", f"which file is this {language}? Put <!-- file: NAME --> before it")
            (self.folder / argument).write_text(source)
            _load(self.folder / argument)
        else:
            raise Failed(f"no way is known to run a block of {language or 'no language'}")

    def _link_checkout(self):
        for name in () if self._has_checkout else _CHECKOUT:
            (self.folder / name).symlink_to(ROOT / name)
        self._has_checkout = True

    def _environment(self):
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return kept | {"PATH": path, "HOME": str(self._home), "COLUMNS": "100"} | self._variables

    def _run(self, command):
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        _require(done.returncode == 0, f"exit code {done.returncode}:\n{done.stdout}")
        return done.stdout

    def _open_terminal(self, source, word):
        process = subprocess.Popen(
            ["bash", "-c", f"exec {source}"],
            cwd=self.folder,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        self._terminals.append(process)
        lines = [""]
        while word not in lines[-1]:
            lines.append(process.stdout.readline())
            _require(lines[-1], f"it ended, and did not print {word}")
        self._variables |= dict(re.findall(r"^ *export (\w+)=(.*)$", "".join(lines), re.MULTILINE))

    def _converse(self, source):
        """Type the commands behind ``$`` one by one, and compare what each prints."""
        first, *shown = re.split(rf"^{re.escape(_PROMPT)}", source, flags=re.MULTILINE)
        _require(not first and shown, f"a block of console begins with {_PROMPT!r}")
        commands, expected = zip(*(part.split("\n", 1) for part in shown), strict=True)
        ends = f"code=$?; printf '{_END}%s{_END}' $code; (exit $code)"
        printed = self._run(["bash", "-c", "\n".join(f"{line}\n{ends}" for line in commands) + "\nexit 0"])
        answers = printed.split(_END)
        outputs, codes = answers[:-1:2], answers[1::2]
        for number, command in enumerate(commands):
            _compare(command, outputs[number], expected[number])
            is_said = commands[number + 1 : number + 2] and commands[number + 1].startswith("echo $?")
            _require(codes[number] == "0" or is_said, f"{command}: exit code {codes[number]}")


def _require(holds, message):
    if not holds:
        raise Failed(message)


def _is_part(block, path):
    # Sybil takes the indentation away that all lines share.
    text = path.read_text()
    return any(textwrap.indent(block, " " * depth) in text for depth in (0, 4, 8))


def _compare(command, printed, expected):
    checker, flags = doctest.OutputChecker(), doctest.ELLIPSIS
    printed = "".join(f"{line.rstrip()}\n" for line in printed.splitlines())
    if not checker.check_output(expected, printed, flags):
        shown = doctest.Example(command, expected)
        raise Failed(f"{command}\n{checker.output_difference(shown, printed, flags)}")


def _load(path):
    """Read a file by what reads it when a command names it."""
    if path.name == "writeahead.toml":
        load_settings(environ={}, config=path)
    elif path.suffix == ".toml":
        load_mapping(path)
    elif path.name.endswith("session.json"):
        read_session_file(str(path))
    else:
        read_json(str(path))


def _compare_tree(drawing, folder):
    """Hold a drawing to the files of a folder; ``...`` in it stands for any files at its place."""
    at, named, open_at = [], set(), set()
    for line in drawing.splitlines()[1:]:
        drawn = re.match(r"(?P<lead>[│ ]*)[├└]── (?P<name>\S+)", line)
        if drawn is None:
            continue  # a note goes on
        depth, name = len(drawn["lead"]) // 4, drawn["name"]
        at = [*at[:depth], name.rstrip("/")]
        if name == "...":
            open_at.add("/".join(at[:-1]))
        elif not name.endswith("/"):
            named.add("/".join(at))
    there = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    found = {str(path) for path in there if str(path) in named or str(path.parent) not in open_at}
    _require(
        found == named, f"{folder.name} has {sorted(found - named)}, and has not {sorted(named - found)}"
    )


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
