"""An adapter of one's own: a module in a folder, by ``module:factory`` and by a short name."""

import shlex

import pytest

from tests.support.processes import finished

# A real module, as a user would write it beside the settings file.
MODULE = '''
from tests.support.crm import CrmAdapter


def make_adapter(url, ready=True):
    """Make it from the settings of its table."""
    return CrmAdapter(url, ready)
'''

FORMS = {
    "module": 'adapter = "my_crm:make_adapter"\n[adapters."my_crm:make_adapter"]\nurl = "{url}"\n',
    "short": 'adapter = "crm"\n[adapters.crm]\nfactory = "my_crm:make_adapter"\nurl = "{url}"\n',
}


@pytest.fixture
def write(folder, remote):
    """Writes the settings file; their factory is in a module of the same folder."""
    (folder / "my_crm.py").write_text(MODULE)

    def write(text):
        (folder / "writeahead.toml").write_text(
            'store = "./artifacts"\n' + text.replace("{url}", remote.url) + "[policy]\nattempts = 1\n"
        )

    return write


@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS)
def test_both_forms_write_to_the_remote_of_their_table(start, cli, remote, write, text):
    write(text)
    assert finished(start("run", cli.session("row"), "--write"))[0] == 0
    assert remote.requests == ["PUT /row"]


@pytest.mark.parametrize("name", ["one", "two"])
def test_one_adapter_has_two_names_with_settings_of_their_own(start, cli, remote, write, name):
    write(
        '[adapters.one]\nfactory = "my_crm:make_adapter"\nurl = "{url}/one"\n'
        '[adapters.two]\nfactory = "my_crm:make_adapter"\nurl = "{url}/two"\n'
    )
    assert finished(start("run", cli.session("row"), "--write", "--adapter", name))[0] == 0
    assert remote.requests == [f"PUT /{name}/row"]


@pytest.mark.parametrize("chosen_by", ["file", "flag", "variable"])
def test_the_next_step_can_be_run_as_it_stands(start, cli, remote, write, chosen_by):
    text = FORMS["short"] if chosen_by == "file" else FORMS["short"].partition("\n")[2]
    write(text)
    (cli.folder / "writeahead.toml").rename(cli.folder / "my settings.toml")
    more = ["--adapter", "crm"] if chosen_by == "flag" else []
    env = {"WRITEAHEAD_ADAPTER": "crm"} if chosen_by == "variable" else {}
    config = ["--config", "my settings.toml"]
    remote.answers = [503]
    code, out, _ = finished(start("run", cli.session("row"), "--write", *config, *more, env=env))
    assert code == 75
    step = out.partition("next: writeahead ")[2]
    assert finished(start(*shlex.split(step), env=env))[0] == 0
    assert sum(remote.effects.values()) == 1


def test_the_next_step_of_show_names_the_planned_adapter_by_its_short_name(cli, remote, write):
    write(FORMS["short"].partition("\n")[2])
    remote.answers = [503]
    assert cli("run", cli.session("row"), "--write", "--adapter", "crm").code == 75
    step = cli("show", "s1", "--json").json["next_step"]
    assert step == "writeahead resume s1 --adapter crm"
    assert cli(*step.split()[1:]).code == 0


@pytest.mark.parametrize(
    ("table", "source"),
    [
        ('adapter = "gone"\n', "settings writeahead.toml: adapter: adapter 'gone' is not installed"),
        (
            'adapter = "crm"\n[adapters.crm]\nfactory = "crm"\n',
            "adapter 'crm' (crm) is not installed; known: dataverse. Or",
        ),
        (
            'adapter = "crm"\n[adapters.crm]\nfactory = "gone:make"\n',
            "settings writeahead.toml: adapter: adapter 'crm' (gone:make): module gone can't be imported",
        ),
        (
            'adapter = "crm"\n[adapters.crm]\nfactory = "my_crm:make_adapter"\ntenant = 1\n',
            "adapter 'crm' (my_crm:make_adapter): the settings in [adapters.crm] do not fit its factory",
        ),
    ],
)
def test_an_error_names_where_the_adapter_came_from(cli, remote, write, table, source):
    write(table)
    done = cli("run", cli.session("row"), "--write")
    assert (done.code, done.out) == (2, "")
    assert source in done.err
    assert len(done.err.splitlines()) == 1


def test_an_adapter_of_a_flag_or_a_variable_is_named_so(cli, remote, write, monkeypatch):
    write('[adapters.crm]\nfactory = "my_crm:make_adapter"\n')
    assert cli("resume", "s1", "--adapter", "cmr").err.startswith(
        "error: --adapter: adapter 'cmr' is not installed; known: crm, dataverse."
    )
    monkeypatch.setenv("WRITEAHEAD_ADAPTER", "cmr")
    assert cli("resume", "s1").err.startswith("error: WRITEAHEAD_ADAPTER: adapter 'cmr' is not installed")


def test_discover_uses_the_settings_of_a_short_name_for_dataverse(cli, remote, write, monkeypatch):
    for name in ("URL", "TENANT_ID", "CLIENT_ID", "CLIENT_SECRET"):
        monkeypatch.delenv(f"DATAVERSE_{name}", raising=False)
    write('adapter = "test"\n[adapters.test]\nfactory = "dataverse"\nurl = "https://crm.example"\n')
    message = cli("dataverse", "discover", "--kind", "task=task").err
    assert "DATAVERSE_CLIENT_SECRET" in message
    assert "DATAVERSE_URL" not in message


@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS)
def test_code_of_a_file_that_all_may_write_is_not_run(cli, remote, write, folder, text):
    write(text)
    (folder / "my_crm.py").write_text("open('ran', 'w').close()\n" + MODULE)
    (folder / "writeahead.toml").chmod(0o646)
    for command in (
        ["run", cli.session("row"), "--write"],
        ["resume", "s1", "--adapter", "crm"],
        ["sweep", "--write"],
        ["list"],
        ["settings"],
    ):
        done = cli(*command)
        assert done.code == 2
        assert "every user may write to it" in done.err + done.out
    assert not (folder / "ran").exists()
    assert remote.requests == []
