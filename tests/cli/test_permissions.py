"""Files and folders that others may write to, where a command takes settings and code from them."""

import pytest


@pytest.fixture
def file(folder):
    return folder / "writeahead.toml"


def test_code_of_a_file_that_all_may_write_is_not_run(cli, remote, file):
    (cli.folder / "planted.py").write_text("open('ran', 'w').close()\n")
    file.write_text('store = "./artifacts"\nadapter = "planted:make"\n')
    file.chmod(0o646)
    for command in (["run", cli.session("row")], ["resume", "s1"], ["sweep", "--write"], ["list"]):
        done = cli(*command)
        assert (done.code, done.out) == (2, "")
        assert "every user may write to it" in done.err
        assert len(done.err.splitlines()) == 1
    assert not (cli.folder / "ran").exists()
    assert cli.bytes_in_store() == {}


def test_code_that_a_group_may_write_runs_with_a_warning(cli, remote, file):
    file.chmod(0o664)
    done = cli("run", cli.session("row"), "--write", "--quiet", "--json")
    assert (done.code, done.json["status"]) == (0, "completed")
    assert done.err == (
        "warning: settings writeahead.toml: the file names code to run, and its group may write to it\n"
    )


@pytest.mark.parametrize("mode", [0o777, 0o1777])
def test_a_run_in_a_folder_that_all_may_write_gets_a_warning(cli, remote, mode):
    cli.folder.chmod(mode)
    file = cli.session("row", "row")
    remote.answers = [503, 503]
    for command in (["run", file, "--write"], ["sweep", "--write"], ["run", file], ["resume", "s1"]):
        assert cli(*command, "--quiet").err == (
            f"warning: {cli.folder}: other users may write to this folder, "
            "and settings and adapters are read from it\n"
        )
    assert cli("list").err == ""


def test_a_folder_of_a_group_gets_no_warning(cli, remote):
    cli.folder.chmod(0o775)
    assert cli("run", cli.session("row"), "--write", "--quiet").err == ""
