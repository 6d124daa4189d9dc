"""``writeahead settings``: what counts and where it came from, without any secret."""

import json

import pytest

from tests.cli.conftest import ADAPTER
from writeahead.cli.secret_values import without_secrets
from writeahead.model import RunPolicy


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch):
    for name in ("URL", "TENANT_ID", "CLIENT_ID", "CLIENT_SECRET", "TIMEOUT", "MAPPING", "READINESS"):
        monkeypatch.delenv(f"DATAVERSE_{name}", raising=False)


def shown(cli, *arguments, code=0):
    done = cli("settings", *arguments, "--json")
    assert (done.code, done.err) == (code, "")
    return {line["name"]: (line["value"], line["source"]) for line in done.json["settings"]}


def test_each_setting_has_its_value_and_its_source(cli, remote, monkeypatch):
    monkeypatch.setenv("WRITEAHEAD_LEASE", "30")
    found = shown(cli, "--attempts", "7")
    assert found["store"] == ("./artifacts", "writeahead.toml: store")
    assert found["adapter"] == (ADAPTER, "writeahead.toml: adapter")
    assert found["policy.attempts"] == (7, "--attempts")
    assert found["policy.lease"] == (30, "WRITEAHEAD_LEASE")
    assert found["policy.clock_skew"] == (0.1, "writeahead.toml: policy.clock_skew")
    assert found["policy.run_limit"] == (300, "default")
    assert found[f'adapters."{ADAPTER}".url'] == (
        remote.url,
        f'writeahead.toml: adapters."{ADAPTER}".url',
    )
    fields = {name.removeprefix("policy.") for name in found if name.startswith("policy.")}
    assert fields == RunPolicy.model_fields.keys() - {"journal"}


def test_the_text_has_a_line_for_each_setting(cli, remote):
    found = shown(cli)
    done = cli("settings")
    assert (done.code, done.err) == (0, "")
    assert [line.split()[0] for line in done.out.splitlines()] == list(found)
    assert done.out.splitlines()[0].split() == ["store", "./artifacts", "writeahead.toml:", "store"]


def test_without_a_file_all_is_a_default(cli, folder):
    (folder / "writeahead.toml").unlink()
    found = shown(cli)
    assert {found.pop("store"), found.pop("adapter")} == {(None, "not set")}
    assert {source for _, source in found.values()} == {"default"}
    assert cli("settings", "--json").json["file"] is None


def test_an_outdated_word_is_the_source_of_what_it_means(cli, monkeypatch):
    monkeypatch.setenv("WRITEAHEAD_JOURNAL", "every")
    done = cli("settings", "--json")
    (line,) = [line for line in done.json["settings"] if line["name"] == "policy.journal_interval"]
    assert (line["value"], line["source"]) == (0, "WRITEAHEAD_JOURNAL")


def test_the_settings_of_an_adapter_come_from_file_variable_or_default(cli, folder, monkeypatch):
    (folder / "writeahead.toml").write_text(
        'adapter = "test"\n[adapters.test]\nfactory = "dataverse"\nurl = "https://test"\ntenant_id = ""\n'
    )
    monkeypatch.setenv("DATAVERSE_TENANT_ID", "t-1")
    monkeypatch.setenv("DATAVERSE_CLIENT_SECRET", "planted-secret")
    found = shown(cli)
    assert found["adapters.test.factory"] == ("dataverse", "writeahead.toml: adapters.test.factory")
    assert found["adapters.test.url"] == ("https://test", "writeahead.toml: adapters.test.url")
    assert found["adapters.test.tenant_id"] == ("t-1", "DATAVERSE_TENANT_ID")
    assert found["adapters.test.max_concurrent"] == (52, "default")
    assert found["adapters.test.client_secret"] == ("set", "DATAVERSE_CLIENT_SECRET")
    assert "planted-secret" not in cli("settings").out
    monkeypatch.delenv("DATAVERSE_CLIENT_SECRET")
    assert shown(cli)["adapters.test.client_secret"] == ("not set", "DATAVERSE_CLIENT_SECRET")


def test_a_variable_that_the_file_leaves_no_room_for_is_named(cli, folder, monkeypatch):
    (folder / "writeahead.toml").write_text(
        'adapter = "dataverse"\n[adapters.dataverse]\nurl = "https://file.example"\nmapping = ""\n'
    )
    monkeypatch.setenv("DATAVERSE_URL", "https://variable.example")
    monkeypatch.setenv("DATAVERSE_MAPPING", "mine.toml")
    found = shown(cli)
    assert found["adapters.dataverse.url"] == (
        "https://file.example",
        "writeahead.toml: adapters.dataverse.url (DATAVERSE_URL does not count)",
    )
    assert found["adapters.dataverse.mapping"] == ("mine.toml", "DATAVERSE_MAPPING")


WRONG = {
    "variable": ({"WRITEAHEAD_ATTEMPTS": "four"}, "", "WRITEAHEAD_ATTEMPTS: Input should be"),
    "unknown variable": ({"WRITEAHEAD_STOR": "x"}, "", "did you mean WRITEAHEAD_STORE?"),
    "file": ({}, "store = ", "settings writeahead.toml: not TOML"),
    "key": ({}, "stor = 'x'", "settings writeahead.toml: stor: unknown key; did you mean store?"),
    "table": ({}, "[adapters.datavers]\nurl = 'x'", "adapters.datavers: there is no such adapter"),
    "store": ({"WRITEAHEAD_STORE": "zork://x"}, "", "WRITEAHEAD_STORE: store zork://...: unknown scheme"),
    "adapter": ({"WRITEAHEAD_ADAPTER": "zork"}, "", "WRITEAHEAD_ADAPTER: adapter 'zork' is not installed"),
    "module": ({"WRITEAHEAD_ADAPTER": "zork:make"}, "", "module zork can't be imported"),
    "factory": (
        {"WRITEAHEAD_ADAPTER": ADAPTER},
        f"[adapters.'{ADAPTER}']\nzork = 1",
        "do not fit its factory",
    ),
    "adapter's variable": (
        {"WRITEAHEAD_ADAPTER": "dataverse", "DATAVERSE_TIMEOUT": "-1"},
        "",
        "adapter 'dataverse': DATAVERSE_TIMEOUT must be a number of seconds above 0",
    ),
    "adapter's key": (
        {},
        "adapter = 'dataverse'\n[adapters.dataverse]\nmaping = 'x'",
        "adapter 'dataverse': there is no setting maping",
    ),
    "no such file": ({"WRITEAHEAD_CONFIG": "gone.toml"}, "", "settings gone.toml: there is no such file"),
}


@pytest.mark.parametrize(("environ", "text", "says"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_named_beside_what_counts(cli, monkeypatch, environ, text, says):
    (cli.folder / "writeahead.toml").write_text(text)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    found = shown(cli, "--lease", "20", code=2)
    assert found["policy.lease"] == (20, "--lease")
    (problem,) = cli("settings", "--json").json["problems"]
    assert says in problem
    done = cli("settings")
    assert done.code == 2
    assert done.out.splitlines()[-1] == f"error: {problem}"


def test_every_problem_is_shown_at_once(cli, folder, monkeypatch):
    (folder / "writeahead.toml").write_text("stor = 'x'\nstore = 1\n[policy]\nattempts = 0\nleas = 1\n")
    monkeypatch.setenv("WRITEAHEAD_STOR", "x")
    assert len(cli("settings", "--json").json["problems"]) == 5


def test_values_that_json_lacks_are_text(cli, folder):
    (folder / "writeahead.toml").write_text(
        f"adapter = '{ADAPTER}'\n[policy]\nmax_age = inf\n"
        f"[adapters.'{ADAPTER}']\nurl = 1979-05-27\nready = [nan, {{ at = 07:32:00 }}]\n"
    )
    found = shown(cli)
    assert found["policy.max_age"][0] == "inf"
    assert found[f'adapters."{ADAPTER}".url'][0] == "1979-05-27"
    assert found[f'adapters."{ADAPTER}".ready'][0] == ["nan", {"at": "07:32:00"}]
    assert cli("settings").code == 0


URLS = {
    "s3://AKIA:planted-secret@bucket/p": "s3://***@bucket/p",
    "s3://AKIA:plan/ted-secret@bucket": "s3://***@bucket",
    "https://planted-secret@host/x": "https://***@host/x",
    "fsspec+ftp://host/?password=planted-secret&port=1": "fsspec+ftp://host/?password=***&port=1",
    "https://h/c?sv=1&sig=planted-secret": "https://h/c?sv=1&sig=***",
    "https://h/o?X-Amz-Signature=planted-secret#x": "https://h/o?X-Amz-Signature=***#x",
    "s3://bucket/a?endpoint_url=http://127.0.0.1:9000": "s3://bucket/a?endpoint_url=http://127.0.0.1:9000",
    "./a@b:c": "./a@b:c",
}


@pytest.mark.parametrize(("url", "safe"), URLS.items())
def test_credentials_in_a_url_are_hidden(cli, folder, url, safe):
    assert without_secrets(url) == safe
    (folder / "writeahead.toml").write_text(f"store = {json.dumps(url)}\n")
    done = cli("settings")
    assert "planted-secret" not in done.out + done.err
    assert done.out.splitlines()[0].split()[1] == safe


@pytest.mark.parametrize(
    "name", ["password", "apiKey", "client-secret", "X_TOKEN", "connection_string", "private_key", "dsn"]
)
def test_a_secret_is_hidden_by_its_name_at_any_depth(name):
    assert without_secrets("planted", name) == "***"
    assert without_secrets({"inner": [{name: "planted"}], "url": "x"}) == {
        "inner": [{name: "***"}],
        "url": "x",
    }
