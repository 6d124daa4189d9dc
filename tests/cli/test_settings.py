"""Flags, then variables, then the file."""

import re
from pathlib import Path

import pytest

from writeahead.cli.settings import gather_settings, load_settings
from writeahead.errors import InvalidInput

ROOT = Path(__file__).parents[2]
FILE = """
store = "from-file"
adapter = "dataverse"

[policy]
attempts = 2
lease = 20
wait_max = 9

[adapters.dataverse]
mapping = "mapping.toml"
"""


@pytest.fixture(autouse=True)
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "writeahead.toml"
    path.write_text(FILE)
    return path


def test_each_value_comes_from_the_first_that_has_it():
    environ = {"WRITEAHEAD_STORE": "from-environment", "WRITEAHEAD_ATTEMPTS": "3", "WRITEAHEAD_LEASE": "30"}
    found = load_settings(environ=environ, store=None, policy={"attempts": 4, "run_limit": None})
    assert found.store == "from-environment"
    assert found.adapter == "dataverse"
    assert found.adapter_settings() == {"mapping": "mapping.toml"}
    assert (found.policy.attempts, found.policy.lease, found.policy.wait_max) == (4, 30, 9)
    assert found.policy.run_limit == type(found.policy)().run_limit
    assert load_settings(environ=environ, store="from-flag").store == "from-flag"
    assert load_settings(environ={"WRITEAHEAD_STORE": ""}).store == "from-file"


def test_an_adapter_gets_the_table_of_its_own_name_only():
    assert load_settings(environ={"WRITEAHEAD_ADAPTER": "crm:make"}).adapter_settings() == {}


def test_another_file_can_be_named(tmp_path, file):
    other = file.rename(tmp_path / "other.toml")
    assert load_settings(environ={}).store is None
    assert load_settings(environ={"WRITEAHEAD_CONFIG": "other.toml"}).store == "from-file"
    assert load_settings(environ={"WRITEAHEAD_CONFIG": "gone.toml"}, config=other).store == "from-file"
    with pytest.raises(InvalidInput, match=r"settings gone\.toml: there is no such file"):
        load_settings(environ={"WRITEAHEAD_CONFIG": "gone.toml"})


def test_a_byte_order_mark_is_no_part_of_the_file(file):
    file.write_bytes(b"\xef\xbb\xbf" + FILE.encode())
    assert load_settings(environ={}).store == "from-file"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"store = {'[' * 100_000}", "nested too deeply"),
        (f"store = {'9' * 10_000}", "not TOML"),
    ],
)
def test_a_file_that_no_one_would_write_is_named(file, text, says):
    file.write_text(text)
    with pytest.raises(InvalidInput, match=rf"^settings writeahead\.toml: {says}"):
        load_settings(environ={})


def test_an_error_names_its_place(file):
    with pytest.raises(InvalidInput, match=r"^WRITEAHEAD_ATTEMPTS: .*integer"):
        load_settings(environ={"WRITEAHEAD_ATTEMPTS": "four"})
    with pytest.raises(InvalidInput, match=r"^--wait-max: .*greater"):
        load_settings(environ={}, policy={"wait_max": -1})
    file.write_bytes(b"\xff")
    with pytest.raises(InvalidInput, match="byte 0 is not UTF-8"):
        load_settings(environ={})
    file.unlink()
    file.mkdir()
    with pytest.raises(InvalidInput, match="can't be read: Is a directory"):
        load_settings(environ={})


NAMES_CODE = {
    "adapter": 'adapter = "crm:make"\n',
    "factory": '[adapters.crm]\nfactory = "crm:make"\n',
    "table": '[adapters."crm:make"]\nurl = "https://other"\n',
}


@pytest.mark.parametrize("text", NAMES_CODE.values(), ids=NAMES_CODE)
@pytest.mark.parametrize("mode", [0o602, 0o666, 0o777])
def test_a_file_with_code_that_all_may_write_is_refused(file, mode, text):
    file.write_text(text)
    file.chmod(mode)
    # A flag for another adapter does not make the file trustworthy.
    for adapter in (None, "crm", "crm:make", "dataverse"):
        with pytest.raises(InvalidInput, match=r"writeahead\.toml: .*every user may write.*chmod o-w"):
            load_settings(environ={}, adapter=adapter)
    found = gather_settings(environ={}, adapter="crm")
    assert (found.adapters, found.aliases) == ({}, {})


@pytest.mark.parametrize("text", NAMES_CODE.values(), ids=NAMES_CODE)
def test_a_file_with_code_that_a_group_may_write_gets_a_warning(file, text):
    file.write_text(text)
    file.chmod(0o664)
    (warning,) = load_settings(environ={}).warnings
    assert "writeahead.toml" in warning
    assert "its group may write" in warning
    file.chmod(0o644)
    assert load_settings(environ={}).warnings == ()


def test_a_file_without_code_may_be_writable_by_all(file):
    file.chmod(0o666)
    assert load_settings(environ={}).warnings == ()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"policy": {"journal": "batched"}}, "--journal: "),
        ({"environ": {"WRITEAHEAD_JOURNAL": "every"}}, "WRITEAHEAD_JOURNAL: "),
        ({}, "settings writeahead.toml: policy.journal: "),
    ],
)
def test_the_journals_words_of_earlier_versions_are_read_with_a_warning(file, given, says):
    word = "every" if "environ" in given else "batched"
    if not given:
        file.write_text('[policy]\njournal = "batched"\n')
    found = load_settings(**{"environ": {}, **given})
    assert found.policy.journal_interval == {"every": 0, "batched": 86_400}[word]
    (warning,) = found.warnings
    assert warning.startswith(says)
    assert f'journal = "{word}" goes in the next version: write journal_interval = ' in warning


def test_a_word_of_a_higher_source_wins_over_an_interval(file):
    file.write_text("[policy]\njournal_interval = 60\n")
    assert load_settings(environ={}, policy={"journal": "every"}).policy.journal_interval == 0
    assert load_settings(environ={"WRITEAHEAD_JOURNAL": "every"}).policy.journal_interval == 0


def test_a_journal_interval_wins_over_a_word(file):
    file.write_text('[policy]\njournal = "batched"\n')
    environ = {"WRITEAHEAD_JOURNAL_INTERVAL": "0.5"}
    assert load_settings(environ=environ).policy.journal_interval == 0.5
    assert load_settings(environ=environ, policy={"journal_interval": 3.0}).policy.journal_interval == 3
    with pytest.raises(InvalidInput, match=r"^--journal-interval: "):
        load_settings(environ={}, policy={"journal_interval": -1.0})
    with pytest.raises(InvalidInput, match=r"^WRITEAHEAD_JOURNAL: .*every.*batched"):
        load_settings(environ={"WRITEAHEAD_JOURNAL": "never"})


@pytest.mark.parametrize(
    ("variable", "nearest"),
    [("WRITEAHEAD_ATTEMPS", "WRITEAHEAD_ATTEMPTS"), ("WRITEAHEAD_STORE_URL", "WRITEAHEAD_STORE")],
)
def test_an_unknown_variable_is_an_error_with_the_nearest_one(variable, nearest):
    with pytest.raises(
        InvalidInput, match=rf"^{variable}: there is no such setting; did you mean {nearest}\?"
    ):
        load_settings(environ={variable: "3"})
    assert load_settings(environ={variable: ""}).problems == ()


def test_an_unknown_variable_that_is_near_to_none_is_answered_with_all():
    with pytest.raises(InvalidInput, match=r"^WRITEAHEAD_XYZZY: .*known: WRITEAHEAD_STORE, ADAPTER"):
        load_settings(environ={"WRITEAHEAD_XYZZY": "3"})


# As Kubernetes sets them for services named writeahead and writeahead-sweep.
SERVICES = {
    "WRITEAHEAD_SERVICE_HOST": "10.0.0.11",
    "WRITEAHEAD_SERVICE_PORT": "80",
    "WRITEAHEAD_SERVICE_PORT_HTTP": "80",
    "WRITEAHEAD_PORT": "tcp://10.0.0.11:80",
    "WRITEAHEAD_PORT_80_TCP": "tcp://10.0.0.11:80",
    "WRITEAHEAD_PORT_80_TCP_PROTO": "tcp",
    "WRITEAHEAD_SWEEP_SERVICE_HOST": "10.0.0.12",
    "WRITEAHEAD_SWEEP_PORT_80_TCP_ADDR": "10.0.0.12",
}


def test_the_variables_of_a_service_are_no_settings():
    environ = {**SERVICES, "_WRITEAHEAD_COMPLETE": "complete_bash", "OTHER": "1"}
    assert load_settings(environ=environ).store == "from-file"


def test_every_variable_that_this_project_reads_is_known():
    texts = [ROOT / "noxfile.py"]
    for folder in ("src", "tests", "examples", "benchmarks"):
        texts += (ROOT / folder).rglob("*.py")
    named = {
        name
        for path in texts
        if path.parent != Path(__file__).parent  # here stand wrong ones
        for name in re.findall(r"(?<![A-Z_])WRITEAHEAD_[A-Z0-9_]*[A-Z0-9]\b", path.read_text())
    }
    assert {"WRITEAHEAD_TESTS", "WRITEAHEAD_STORE"} <= named
    problems = gather_settings(environ=dict.fromkeys(named, "1")).problems
    assert [problem for problem in problems if "there is no such setting" in problem] == []


TABLES = {
    "[adaptors.dataverse]": ["adaptors: unknown key; did you mean adapters?"],
    "[Policy]": ["Policy: unknown key; did you mean policy?"],
    "[policy.attempts]\nvalue = 3": ["policy.attempts: a table", "attempts = VALUE below [policy]"],
    "attempts = 3": ["attempts: unknown key here; it belongs below [policy]"],
    "[policy]\nstore = 'x'": ["policy.store: unknown key here; store belongs above the first [table]"],
    "[policy]\nattemps = 3": ["policy.attemps: unknown key; did you mean attempts?"],
    "[adapters.datavers]\nurl = 'x'": [
        "adapters.datavers: there is no such adapter; did you mean dataverse?"
    ],
    "adapter = 'crm:make'\n[adapters.crm]\nurl = 'x'": [
        "adapters.crm: there is no",
        "known: crm:make, dataverse",
    ],
    "adapter = 'crm:make'\n[adapters.'crm:mak']": ['adapters."crm:mak": nothing uses', "is crm:make"],
    "adapter = 'a'\n[adapters.a]\nfactory = 'b:c'\n[adapters.'b:c']": ['adapters."b:c": nothing uses'],
    "[adapters.crm]\nfactory = 3": ["adapters.crm.factory: write", '"module:factory"'],
    "[adapters.'b:c']\nfactory = 'b:c'": ["adapters.b:c.factory: the table's name says it"],
    "[adapters.dataverse]\nfactory = 'b:c'": ["adapters.dataverse: an installed adapter has this name"],
}


@pytest.mark.parametrize(("text", "named"), TABLES.items(), ids=TABLES)
def test_a_wrong_table_is_an_error_with_advice(file, text, named):
    file.write_text(text)
    with pytest.raises(InvalidInput) as caught:
        load_settings(environ={})
    assert str(caught.value).startswith("settings writeahead.toml: ")
    assert "more: 'writeahead settings'" not in str(caught.value)
    for part in named:
        assert part in str(caught.value)


SEVERAL = """
[adapters.dataverse]
mapping = "m.toml"
[adapters.crm]
factory = "my_crm:make"
url = "https://crm"
[adapters.test]
factory = "dataverse"
url = "https://test"
"""


@pytest.mark.parametrize("adapter", [None, "dataverse", "crm", "test", "other:make"])
def test_a_file_may_have_settings_of_several_adapters(file, adapter):
    file.write_text(SEVERAL)
    found = load_settings(environ={}, adapter=adapter)
    assert found.aliases == {"crm": "my_crm:make", "test": "dataverse"}
    settings = {
        "crm": {"url": "https://crm"},
        "test": {"url": "https://test"},
        "dataverse": {"mapping": "m.toml"},
    }
    assert found.adapter_settings() == settings.get(adapter, {})


@pytest.mark.parametrize("where", ["file", "variable", "flag"])
def test_a_table_is_asked_for_by_any_source(file, where):
    file.write_text(("adapter = 'a:b'\n" if where == "file" else "") + "[adapters.'a:b']\nurl = 'x'\n")
    environ = {"WRITEAHEAD_ADAPTER": "a:b"} if where == "variable" else {}
    # Another adapter for this one command does not make the table wrong.
    flag = "a:b" if where == "flag" else "dataverse"
    assert load_settings(environ=environ, adapter=flag).problems == ()


def test_a_command_without_an_adapter_takes_a_file_for_one_named_by_flag(file):
    file.write_text("[adapters.'a:b']\nurl = 'x'\n")
    assert load_settings(environ={}).adapter is None


def test_all_problems_are_counted(file):
    file.write_text("stor = 'x'\n[policy]\nattempts = 0\nlease = -1\n")
    with pytest.raises(InvalidInput, match=r"stor: .*and 3 more: 'writeahead settings' shows all"):
        load_settings(environ={"WRITEAHEAD_STOR": "x"})


def test_each_value_has_its_source():
    environ = {"WRITEAHEAD_STORE": "from-environment", "WRITEAHEAD_LEASE": "30"}
    assert load_settings(environ=environ, policy={"attempts": 4}).sources == {
        "store": "WRITEAHEAD_STORE",
        "adapter": "settings writeahead.toml: adapter",
        "attempts": "--attempts",
        "lease": "WRITEAHEAD_LEASE",
        "wait_max": "settings writeahead.toml: policy.wait_max",
    }


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"policy": {"waits": "1,5,15"}}, ""),
        ({"environ": {"WRITEAHEAD_WAITS": "1, 5, 15"}}, ""),
        ({}, "waits = [1, 5, 15]"),
    ],
)
def test_waits_come_from_a_flag_a_variable_or_the_file(file, given, text):
    file.write_text(f"[policy]\n{text}\n")
    policy = load_settings(**{"environ": {}, **given}).policy
    assert (policy.waits, policy.attempts) == ((1, 5, 15), 4)


def test_waits_and_the_words_for_them_of_a_lower_source_do_not_clash(file):
    file.write_text("[policy]\nwait_initial = 2\nwait_max = 9\n")
    assert load_settings(environ={"WRITEAHEAD_WAITS": "1"}).policy.waits == (1,)
    file.write_text("[policy]\nwaits = [1, 5, 15]\n")
    policy = load_settings(environ={"WRITEAHEAD_WAIT_MAX": "9"}).policy
    assert (policy.waits, policy.wait_max, policy.attempts) == (None, 9, 4)
    assert load_settings(environ={}, policy={"attempts": 2}).policy.attempts == 2


@pytest.mark.parametrize(
    ("waits", "says"),
    [("1,five", "valid number"), ("1,,2", "valid number"), ("-1", "greater than or equal to 0")],
)
def test_waits_that_are_none_name_their_source(waits, says):
    with pytest.raises(InvalidInput, match=f"^WRITEAHEAD_WAITS: .*{says}"):
        load_settings(environ={"WRITEAHEAD_WAITS": waits})


def test_waits_and_the_words_for_them_in_one_source_are_refused(file):
    file.write_text("[policy]\nwaits = [1]\nwait_max = 9\n")
    with pytest.raises(InvalidInput, match=r"toml: policy\.waits: waits take the place of wait_initial and"):
        load_settings(environ={})
    file.write_text("[policy]\nwaits = []\n")
    with pytest.raises(InvalidInput, match=r"toml: policy\.waits: .*at least 1 item"):
        load_settings(environ={})
