"""What Tab offers, in a real bash: one that is asked as readline asks, and one on a terminal."""

import os
import pty
import socket
import subprocess

import pytest
import shellingham

from tests.cli.test_processes import SCRIPT
from tests.support.processes import child_environment
from writeahead.cli.completion import _rejoin_words

BASH = ["bash", "--noprofile", "--norc"]


def environment(**more):
    path = os.pathsep.join([str(SCRIPT.parent), os.environ["PATH"]])
    return child_environment(PATH=path, PS1="$ ", TERM="dumb", **more)


@pytest.fixture(scope="module")
def script():
    """The completion script, as bash is given it."""
    done = subprocess.run(
        [*BASH, "-c", f"{SCRIPT} --show-completion; true"],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout


@pytest.fixture
def offered(script, folder):
    """Returns what bash would offer for the last of some words."""

    def offered(*words, **env):
        ask = (
            f'{script}\nCOMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _writeahead_completion "$1"\n'
            'for word in "${COMPREPLY[@]}"; do echo "$word"; done'
        )
        done = subprocess.run(
            [*BASH, "-c", ask, "bash", "writeahead", *words],
            cwd=folder,
            env=environment(**env),
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert done.stderr == ""
        return done.stdout.split()

    return offered


@pytest.fixture
def sessions(cli, remote):
    """Two sessions that are not finished, and one that is."""
    for session_id, answers in (("call-1", [503, 503]), ("mail-2", [400]), ("call-3", [])):
        remote.answers = answers
        cli("run", cli.session("row", session_id=session_id), "--write")


def test_commands_and_options_are_offered(offered):
    assert offered("sh") == ["show"]
    assert offered("resume", "--take") == ["--take-over"]


@pytest.mark.parametrize(
    ("words", "ids"),
    [
        (["resume", ""], ["call-1", "mail-2"]),
        (["unblock", "--reason", "'a reason'", "ma"], ["mail-2"]),
        (["show", "call"], ["call-1", "call-3"]),
        (["show", "--store", "=", "file", ":", "//{store}", ""], ["call-1", "call-3", "mail-2"]),
        (["show", "--store", "{store}", "call-3"], ["call-3"]),
        (["show", "../"], []),
    ],
)
def test_the_ids_of_the_named_store_are_offered(offered, cli, sessions, words, ids):
    assert offered(*(word.format(store=cli.store) for word in words)) == ids


def test_installed_adapters_and_safe_short_names_are_offered(offered, folder):
    (folder / "writeahead.toml").write_text(
        '[adapters.crm]\nfactory = "a:b"\n[adapters."$(touch ran)"]\nfactory = "a:b"\n'
    )
    assert offered("run", "--adapter", "") == ["crm", "dataverse"]
    assert not (folder / "ran").exists()


@pytest.mark.parametrize("text", ["stor = 1", "store = 'zork://x'", "store = './nothing-there'", ""])
def test_what_is_wrong_offers_nothing_and_says_nothing(offered, folder, text):
    (folder / "writeahead.toml").write_text(text)
    assert offered("resume", "") == []
    assert [path.name for path in folder.iterdir()] == ["writeahead.toml"]


def test_a_store_that_never_answers_is_given_up(offered, folder):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        (folder / "writeahead.toml").write_text(
            f'store = "s3://bucket/p?endpoint_url=http://127.0.0.1:{silent.getsockname()[1]}"\n'
        )
        assert offered("resume", "", AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="y") == []


def test_a_session_id_is_completed_on_a_terminal(script, folder, sessions):
    def read_until(wanted):
        seen = b""
        while wanted not in seen:
            seen += os.read(terminal, 4096)

    (folder / "completion.sh").write_text(script)
    process, terminal = pty.fork()
    if not process:
        os.chdir(folder)
        os.execvpe("bash", [*BASH, "-i"], environment())
    try:
        os.write(terminal, b"source completion.sh; echo loa''ded\n")
        read_until(b"loaded")
        # Readline splits this at the equals sign, and shows what it completes.
        os.write(terminal, b"writeahead show --store=./artifacts m\t")
        read_until(b"mail-2")
    finally:
        os.close(terminal)  # hangs up, which ends bash
        os.waitpid(process, 0)


@pytest.mark.parametrize(
    ("words", "position", "joined", "then"),
    [
        (["w", "show", "--store", "=", "s3", ":", "//b", "x"], 7, ["w", "show", "--store=s3://b", "x"], 3),
        (["w", "list", "--state", "=", "bl"], 4, ["w", "list", "--state", "bl"], 3),
        (["w", "list", "--state", "="], 3, ["w", "list", "--state", "="], 3),
        (["w", "list", "--state", ""], 3, ["w", "list", "--state", ""], 3),
        (["w", "s", "--after"], 1, ["w", "s", "--after"], 1),
        (["w", "", "x"], 2, ["w", "", "x"], 2),
    ],
)
def test_words_that_bash_split_are_joined_again(words, position, joined, then):
    environ = {"COMP_WORDS": "\n".join(words), "COMP_CWORD": str(position)}
    _rejoin_words(environ)
    assert environ == {"COMP_WORDS": "\n".join(joined), "COMP_CWORD": str(then)}


def test_a_shell_that_cannot_be_found_is_wrong_usage(cli, monkeypatch):
    def none():
        raise shellingham.ShellDetectionFailure

    monkeypatch.setattr(shellingham, "detect_shell", none)
    for option in ("--show-completion", "--install-completion"):
        done = cli(option)
        assert done.code == 2
        assert "error: completion is for a shell that it is started from" in done.err


def test_installing_it_twice_leaves_one_line(folder):
    # With a command behind them, so that bash stays their parent: it would become the last of them.
    install = [*BASH, "-c", f"{SCRIPT} --install-completion && {SCRIPT} --install-completion && :"]
    subprocess.run(install, env=environment(HOME=str(folder)), capture_output=True, check=True)
    assert (folder / ".bashrc").read_text().count("source") == 1
    assert "_writeahead_completion" in (folder / ".bash_completions/writeahead.sh").read_text()
