"""The pages about settings: each settings file is read, and each command is understood."""

import re
from pathlib import Path

import pytest

from writeahead.cli.settings import load_settings

ROOT = Path(__file__).parents[2]
SETTINGS = (ROOT / "docs/settings.md").read_text()
FILES = re.findall(r"```toml\n(.*?)```", SETTINGS + (ROOT / "docs/adapters.md").read_text(), re.DOTALL)
COMMANDS = re.findall(r"^    writeahead (.*?)(?: +#.*)?$", SETTINGS, re.MULTILINE)


@pytest.mark.parametrize("text", FILES)
def test_each_settings_file_is_read(tmp_path, text):
    file = tmp_path / "writeahead.toml"
    file.write_text(text)
    found = load_settings(environ={}, config=file)
    assert found.adapter
    assert found.adapter_settings()


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_is_understood(command):
    from writeahead.cli.app import app

    # --help is looked at last: unknown options and commands before it would be refused.
    words = [word for word in command.split() if "completion" not in word]
    assert app([*words, "--help"], standalone_mode=False, prog_name="writeahead") in (0, None)


def test_the_page_has_files_and_commands():
    assert len(FILES) >= 4
    assert len(COMMANDS) >= 6
