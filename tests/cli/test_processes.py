"""The command as a process of its own: the script, the module, stdin, and what it loads."""

import json
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import typer

from tests.support.processes import child_environment, finished
from writeahead.cli.app import app

SCRIPT = Path(sysconfig.get_path("scripts")) / "writeahead"


def test_the_script_and_the_module_are_one_command(start):
    script = subprocess.run([SCRIPT, "--version"], capture_output=True, text=True, check=True)
    assert finished(start("--version")) == (0, script.stdout, "")
    assert script.stdout.startswith("writeahead ")


def test_alone_it_lists_its_commands(start):
    code, out, err = finished(start())
    assert (code, err) == (0, "")
    listed = re.findall(r"^  (\w+) +(.+)$", out.partition("Commands:")[2], re.MULTILINE)
    commands = typer.main.get_command(app).commands
    assert [name for name, _ in listed] == list(commands)
    for (name, line), command in zip(listed, commands.values(), strict=True):
        first = command.help.splitlines()[0]
        # Longer ones would end in an ellipsis: see `writeahead.cli.app`.
        assert len(first) <= 60, f"{name}: the first line of its help has more than 60 characters"
        assert line == first


def test_the_version_loads_no_library_of_the_command_line():
    code = (
        "import sys; from writeahead.cli import main; main(['--version'])\n"
        "print(sorted({'typer', 'rich', 'httpx', 's3fs', 'tenacity'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[1] == "[]"


def test_a_whole_session_over_process_boundaries(start, cli, remote):
    remote.answers = [201, 503, 503]
    with cli.session("row", "row").open() as file:
        code, out, err = finished(start("run", "-", "--write", "--quiet", "--json", stdin=file))
    assert (code, err, json.loads(out)["status"]) == (75, "", "resume_needed")
    code, out, err = finished(start("resume", "s1", "--json", "--quiet"))
    assert (code, err, json.loads(out)["status"]) == (0, "", "completed")
    assert sum(remote.effects.values()) == 2
    assert remote.requests == ["PUT /row"] * 4


def test_an_adapter_in_the_working_directory_can_be_named(cli, remote):
    cli.adapter(
        "here:make",
        "from tests.support.crm import CrmAdapter\n\ndef make(url):\n    return CrmAdapter(url)\n",
        remote.url,
    )
    # As a script, which does not look into the working directory by itself.
    done = subprocess.run(
        [SCRIPT, "run", cli.session("row"), "--write", "--quiet", "--adapter", "here:make"],
        env=child_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert remote.requests == ["PUT /row"]


def test_a_working_directory_that_is_gone_is_no_obstacle(cli, remote, folder):
    session, gone = cli.session("row"), folder / "gone"
    gone.mkdir()
    arguments = ["--write", "--quiet", "--config", folder / "writeahead.toml", "--store", cli.store]
    done = subprocess.run(
        ["/bin/sh", "-c", 'rmdir "$PWD" && exec "$@"', "sh", SCRIPT, "run", session, *arguments],
        cwd=gone,
        env=child_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert remote.requests == ["PUT /row"]


def test_every_command_has_json():
    def leaves(command):
        inner = getattr(command, "commands", {}).values()
        return [leaf for part in inner for leaf in leaves(part)] if inner else [command]

    commands = leaves(typer.main.get_command(app))
    flags = {
        command.name: {flag for option in command.params for flag in option.opts} for command in commands
    }
    assert len(flags) >= 9
    assert [name for name, names in flags.items() if "--json" not in names] == []
