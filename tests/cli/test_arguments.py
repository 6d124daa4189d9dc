"""What looks like an option is one: no other takes it for its value, nor a value for it."""

import pytest
import typer

from writeahead.cli.app import app
from writeahead.cli.arguments import given_options

GROUP = typer.main.get_command(app)


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (["list", "--json"], {"--json"}),
        (["list", "--store=--json"], {"--store"}),
        (["unblock", "s1", "--reason", "it said --json"], {"--reason"}),
        (["unblock", "s1", "--reason", "-- by hand"], {"--reason"}),
        (["show", "--", "--json"], set()),
        (["resume", "s1", "--wait-max", "-1", "--json"], {"--wait-max", "--json"}),
        (["run", "-", "--json"], {"--json"}),
        (["run", "list", "--json"], {"--json"}),
        (["zork", "--json"], {"--json"}),
        (["--zork", "list", "--json"], {"--zork", "--json"}),
        (["dataverse", "discover", "--out", "x", "--json"], {"--out", "--json"}),
        (["--json"], {"--json"}),
        ([], set()),
    ],
)
def test_options_are_told_from_values(arguments, options):
    assert given_options(GROUP, arguments) == (options, None)


def every_option_with_a_value():
    def leaves(command, path):
        for name, inner in getattr(command, "commands", {}).items():
            yield from leaves(inner, [*path, name])
        if not hasattr(command, "commands"):
            yield path, command

    for path, command in leaves(GROUP, []):
        for option in command.params:
            if option.param_type_name == "option" and not option.is_flag:
                yield [*path, option.opts[0]]


def assert_named(done, arguments, follows):
    *command, option = arguments
    assert done.code == 2
    assert done.err == (
        f"error: Option '{option}' needs a value, but '{follows}' follows. "
        f"If that is the value, write {option}={follows}\n"
        f"See 'writeahead {' '.join(command)} --help'.\n"
    )


@pytest.mark.parametrize("arguments", [*every_option_with_a_value()], ids=" ".join)
def test_no_option_takes_another_one_as_its_value(cli, arguments):
    before = sorted(cli.folder.rglob("*"))
    done = cli(*arguments, "--json")
    assert_named(done, arguments, "--json")
    assert done.json["type"] == "UsageError"
    assert sorted(cli.folder.rglob("*")) == before


@pytest.mark.parametrize("follows", ["--help", "--config", "--config=x", "--zork", "--"])
def test_whatever_looks_like_an_option_is_no_value(cli, follows):
    done = cli("list", "--store", follows)
    assert_named(done, ["list", "--store"], follows)
    assert done.out == ""


def test_a_folder_of_such_a_name_can_be_written_with_an_equals_sign(cli, remote):
    assert cli("run", cli.session("row"), "--write", "--store=--json").code == 0
    assert (cli.folder / "--json/s1/writeback.json").exists()
    done = cli("list", "--store=--json")
    assert done.code == 0
    assert "s1" in done.out
    assert not done.out.startswith("{")


def test_a_reason_that_reads_like_a_flag_is_a_reason(cli, remote):
    remote.answers = [400]
    cli("run", cli.session("row"), "--write")
    done = cli("unblock", "s1", "--reason=--json")
    assert done.code == 0
    assert done.out.startswith("s1  ")
    assert cli("show", "s1", "--json").json["history"][-1]["reason"] == "--json"


def test_a_reason_that_reads_like_help_hides_no_answer(cli, remote):
    remote.answers = [400]
    cli("run", cli.session("row"), "--write")
    done = cli("abandon", "s1", "--reason=--help")
    assert (done.code, done.out.splitlines()[0]) == (0, "s1  abandoned")


def test_an_error_before_the_command_is_known_is_json_as_well(cli):
    for arguments in (["zork", "--json"], ["--zork", "--json"], ["--json"]):
        done = cli(*arguments)
        assert (done.code, done.json["type"]) == (2, "UsageError")
