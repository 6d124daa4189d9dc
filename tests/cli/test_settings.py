"""Flags, then variables, then the file."""

import pytest

from writeahead.cli.settings import load_settings
from writeahead.errors import InvalidInput

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


def names_code(file, mode):
    file.write_text('adapter = "crm:make"\n')
    file.chmod(mode)


@pytest.mark.parametrize("mode", [0o602, 0o666, 0o777])
def test_a_file_with_code_that_all_may_write_is_refused(file, mode):
    names_code(file, mode)
    with pytest.raises(InvalidInput, match=r"writeahead\.toml: .*every user may write.*chmod o-w"):
        load_settings(environ={})
    # A flag for another adapter does not make the file trustworthy.
    with pytest.raises(InvalidInput, match="every user may write"):
        load_settings(environ={}, adapter="dataverse")


def test_a_file_with_code_that_a_group_may_write_gets_a_warning(file):
    names_code(file, 0o664)
    (warning,) = load_settings(environ={}).warnings
    assert "writeahead.toml" in warning
    assert "its group may write" in warning
    names_code(file, 0o644)
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
