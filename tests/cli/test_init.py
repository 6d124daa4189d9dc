"""``writeahead init``: a settings file that explains each key, and changes nothing by itself."""

import os
import re
import stat
import tomllib

import pytest

from tests.support.processes import finished
from writeahead.adapters.dataverse.settings import DataverseSettings
from writeahead.cli.new_file import write_new_file
from writeahead.cli.settings import load_settings
from writeahead.errors import InvalidInput
from writeahead.model import RunPolicy


@pytest.fixture
def empty(folder):
    (folder / "writeahead.toml").unlink()
    return folder


@pytest.fixture
def file(empty):
    return empty / "writeahead.toml"


def uncommented(text):
    return re.sub(r"^#(?! )", "", text, flags=re.MULTILINE)


def test_the_new_file_changes_nothing(cli, file):
    done = cli("init")
    assert (done.code, done.err) == (0, "")
    assert done.out == "wrote writeahead.toml\nnext: edit it, then see what counts: writeahead settings\n"
    assert tomllib.loads(file.read_text()) == {"policy": {}}
    assert load_settings(environ={}).policy == RunPolicy()


def test_each_line_uncommented_says_the_default(cli, file):
    cli("init")
    content = tomllib.loads(uncommented(file.read_text()))
    assert RunPolicy.model_validate(content["policy"]) == RunPolicy()
    unset = {name for name, field in RunPolicy.model_fields.items() if field.default is None}
    assert content["policy"].keys() == RunPolicy.model_fields.keys() - unset
    file.write_text(uncommented(file.read_text()))
    found = load_settings(environ={})
    assert (found.policy, found.store, found.adapter) == (RunPolicy(), "./artifacts", "dataverse")
    assert found.aliases == {"crm": "my_crm:make_adapter"}


def test_every_key_is_explained_but_for_what_is_outdated(cli, file):
    cli("init", "--adapter", "dataverse")
    text = file.read_text()
    for name in RunPolicy.model_fields.keys() - {"journal"}:
        assert re.search(rf"^# {name}: \w.{{20}}", text, re.MULTILINE), name
    for name in DataverseSettings.model_fields.keys() - {"client_secret", "token"}:
        assert re.search(rf"^# {name} \(DATAVERSE_{name.upper()}\): \w", text, re.MULTILINE), name
    assert "# DATAVERSE_CLIENT_SECRET is a secret: put it in the environment." in text
    assert not re.search(r"^#?(journal|client_secret|token) =", text, re.MULTILINE)
    assert max(map(len, text.splitlines())) <= 100


def test_the_settings_of_dataverse_uncommented_are_its_defaults(cli, file):
    cli("init", "--adapter", "dataverse", "--store", "s3://bucket/prefix")
    file.write_text(uncommented(file.read_text()))
    found = load_settings(environ={})
    assert (found.store, found.adapter) == ("s3://bucket/prefix", "dataverse")
    given = found.adapter_settings()
    assert {"url", "authority", "max_requests", "readiness"} <= given.keys()
    assert DataverseSettings.read(given, {}) == DataverseSettings.read({}, {})


def test_an_adapter_of_ones_own_gets_the_parameters_of_its_factory(cli, file):
    (cli.folder / "own.py").write_text(
        "def make(url, password, ready=True, most=7, hook=None, **more): ...\n"
    )
    assert cli("init", "--adapter", "own:make").code == 0
    text = file.read_text()
    assert 'adapter = "own:make"\n' in text
    assert '[adapters."own:make"]\n' in text
    assert "\n# There is no url in this file by default.\n" in text
    assert "\n# password is a secret, which does not belong here.\n" in text
    file.write_text(uncommented(text))
    assert load_settings(environ={}).adapter_settings() == {"ready": True, "most": 7}


def test_a_file_that_is_there_is_kept_unless_forced(cli, file):
    file.write_text("store = 'mine'\n")
    done = cli("init", "--json")
    assert (done.code, done.json["type"]) == (2, "InvalidInput")
    assert "writeahead.toml: the file exists: name another file, or add --force" in done.err
    assert file.read_text() == "store = 'mine'\n"
    done = cli("init", "--force", "--json")
    assert done.json == {"file": "writeahead.toml", "next_step": "writeahead settings"}
    assert "mine" not in file.read_text()


def test_another_file_can_be_named(cli, empty, monkeypatch):
    done = cli("init", "--config", "my settings.toml", "--json")
    assert done.json["next_step"] == "writeahead settings --config 'my settings.toml'"
    monkeypatch.setenv("WRITEAHEAD_CONFIG", "by-variable.toml")
    assert cli("init").code == 0
    assert sorted(path.name for path in empty.iterdir()) == ["by-variable.toml", "my settings.toml"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--store", "zork://x"], "unknown scheme"),
        (["--store", "s3://key:planted-secret@bucket"], "credentials don't belong in a URL"),
        (["--adapter", "zork"], "--adapter: adapter 'zork' is not installed; known: dataverse"),
        (["--adapter", "zork:make"], "module zork can't be imported"),
        (["--config", "gone/x.toml"], "gone/x.toml: can't be written: No such file or directory"),
        (["--config", "x" * 300], "can't be written: File name too long"),
        (["--config", "."], "this is no file"),
        (["--config", ".", "--force"], "this is no file"),
        (["--config", "/dev/full", "--force"], "this is no file"),
    ],
)
def test_wrong_input_writes_nothing(cli, empty, arguments, says):
    done = cli("init", *arguments)
    assert (done.code, done.out) == (2, "")
    assert says in done.err
    assert "planted-secret" not in done.err
    assert list(empty.iterdir()) == []


@pytest.mark.parametrize("umask", [0o000, 0o002, 0o022, 0o077])
def test_others_can_read_the_file_and_not_write_to_it(cli, file, umask):
    before = os.umask(umask)
    try:
        assert cli("init").code == 0
        assert stat.S_IMODE(file.stat().st_mode) == 0o644 & ~umask
        file.chmod(0o606)
        assert cli("init", "--force").code == 0
        assert stat.S_IMODE(file.stat().st_mode) == 0o604 & ~umask
    finally:
        os.umask(before)


def test_a_link_is_followed_and_stays(cli, file):
    real = cli.folder / "real.toml"
    real.write_text("")
    file.symlink_to(real)
    assert cli("init", "--force").code == 0
    assert file.is_symlink()
    assert "[policy]" in real.read_text()


def test_a_file_that_appears_meanwhile_is_kept(tmp_path, monkeypatch):
    path = tmp_path / "x"
    opened = os.open

    def slow(name, *arguments):
        path.write_text("another's")
        return opened(name, *arguments)

    monkeypatch.setattr(os, "open", slow)
    with pytest.raises(InvalidInput, match="the file exists"):
        write_new_file(path, "mine", force=False)
    assert (path.read_text(), list(tmp_path.iterdir())) == ("another's", [path])


@pytest.mark.parametrize("force", [False, True])
def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch, force):
    path = tmp_path / "x"
    if force:
        path.write_text("before")

    def full(_file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InvalidInput, match="x: can't be written: No space left on device"):
        write_new_file(path, "after", force=force)
    assert {name.name: name.read_text() for name in tmp_path.iterdir()} == ({"x": "before"} if force else {})


def test_what_init_writes_is_what_the_next_commands_read(start, cli, empty, remote):
    adapter = "tests.support.crm:CrmAdapter"
    assert finished(start("init", "--store", "./artifacts", "--adapter", adapter))[0] == 0
    file = empty / "writeahead.toml"
    file.write_text(file.read_text() + f'url = "{remote.url}"\n')
    assert finished(start("run", cli.session("row"), "--write"))[0] == 0
    assert remote.requests == ["PUT /row"]
