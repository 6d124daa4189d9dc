"""The file ``writeahead.toml``: read strictly; all that is wrong with it is found at once.

Every key is optional, and an unknown one is an error::

    store = "./artifacts"
    adapter = "crm"

    [policy]                    # the fields of writeahead.RunPolicy
    attempts = 4

    [adapters.dataverse]        # an installed adapter: keyword arguments for its factory
    mapping = "mapping.toml"

    [adapters.crm]              # a short name: `factory` says what for
    factory = "my_crm:make_adapter"
    url = "https://crm.example"

    [adapters."my_erp:make"]    # the adapter that is given as my_erp:make

``factory`` is ``module:factory`` or the name of an installed adapter, so that one adapter can have
several names with different settings. Relative paths are taken from the working directory. Secrets
do not belong in the file: adapters take them from the environment. A file that names code to run is
refused if every user may write to it.
"""

import os
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from writeahead._validation import Invalid, Problem, validated
from writeahead.cli.permissions import checked_code_source
from writeahead.cli.secret_values import is_secret_name
from writeahead.errors import InvalidInput
from writeahead.policy import RunPolicy

__all__ = ["CONFIG_FILE", "FACTORY", "SettingsFile", "did_you_mean", "read_settings_file"]

CONFIG_FILE = "writeahead.toml"
# The key of an adapter's table that makes the table's name a short name.
FACTORY = "factory"


class _Content(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    store: str | None = None
    adapter: str | None = None
    policy: dict[str, Any] = Field(default_factory=dict)
    adapters: dict[str, dict[str, Any]] = Field(default_factory=dict)


@dataclass(frozen=True)
class SettingsFile:
    """What a settings file says, without what is wrong with it.

    Attributes:
        path: The file.
        is_there: Whether it exists and could be read.
        store: The store's URL.
        adapter: The adapter's name.
        policy: Fields of `RunPolicy`, not yet checked.
        adapters: The tables below ``adapters``, by name.
        problems: Why it can't be used, each with its place.
        warnings: What is no reason to refuse it.
    """

    path: Path
    is_there: bool = False
    store: str | None = None
    adapter: str | None = None
    policy: Mapping[str, Any] = field(default_factory=dict)
    adapters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    problems: Sequence[str] = ()
    warnings: Sequence[str] = ()

    def place(self, key: str) -> str:
        """Name a key of the file, as errors do."""
        return f"settings {self.path}: {key}"

    def aliases(self) -> Mapping[str, str]:
        """Return what each short name stands for."""
        return {
            name: table[FACTORY]
            for name, table in self.adapters.items()
            if isinstance(table.get(FACTORY), str)
        }


def read_settings_file(path: Path, *, must_exist: bool) -> SettingsFile:
    """Read a settings file. What is wrong with it is in the result, and nothing is raised."""
    try:
        with path.open("rb") as file:
            mode, data = os.fstat(file.fileno()).st_mode, file.read()
        content = tomllib.loads(data.decode("utf-8-sig"))
    except FileNotFoundError:
        problem = "there is no such file; 'writeahead init' writes one" if must_exist else None
    except OSError as error:
        problem = f"can't be read: {error.strerror}"
    except UnicodeDecodeError as error:
        problem = f"byte {error.start} is not UTF-8"
    except ValueError as error:  # also an integer of too many digits
        problem = f"not TOML: {error}"
    except RecursionError:
        problem = "nested too deeply"
    else:
        return _checked(path, mode, content)
    return SettingsFile(path, problems=(f"settings {path}: {problem}",) if problem else ())


def did_you_mean(name: str, known: Collection[str], *, prefix: str = "") -> str:
    """Name the known word that is nearest to a wrong one; nothing if none is near."""
    words = {word.lower(): word for word in known}
    near = get_close_matches(name.lower(), words, n=1)
    return f"did you mean {prefix}{words[near[0]]}? " if near else ""


def _checked(path: Path, mode: int, content: dict[str, Any]) -> SettingsFile:
    problems: list[str] = []
    found = validated(lambda: _Content.model_validate(content))
    if isinstance(found, Invalid):
        problems += [_described(item) for item in found.problems]
        found = _Content.model_validate(_without(content, found))
    problems += _secrets(found.adapters, "adapters")
    problems += [line for name, table in found.adapters.items() if (line := _factory_problem(name, table))]
    file = SettingsFile(path, is_there=True, **dict(found))
    file = replace(file, problems=tuple(map(file.place, problems)))
    if not any(":" in name for name in (file.adapter or "", *file.adapters, *file.aliases().values())):
        return file
    try:
        warning = checked_code_source(path, mode)
    except InvalidInput as error:
        # Nothing that such a file says counts.
        return SettingsFile(path, is_there=True, problems=(str(error),))
    return replace(file, warnings=(warning,) if warning else ())


def _without(content: dict[str, Any], invalid: Invalid) -> dict[str, Any]:
    """Leave out what is wrong, down to single tables below ``adapters``."""
    kept = {name: dict(value) if isinstance(value, dict) else value for name, value in content.items()}
    for problem in invalid.problems:
        holder = kept
        for name in problem.place[:-1]:
            holder = holder[str(name)]
        holder.pop(str(problem.place[-1]), None)
    return kept


def _described(problem: Problem) -> str:
    place = problem.where("it")
    if problem.kind != "extra_forbidden":
        return f"{place}: {problem.message}"
    if place in RunPolicy.model_fields:
        return f"{place}: unknown key here; it belongs below [policy]"
    known = tuple(_Content.model_fields)
    return f"{place}: unknown key; {did_you_mean(place, known)}known: {', '.join(known)}"


def _secrets(table: Mapping[str, Any], where: str) -> list[str]:
    found: list[str] = []
    for name, value in table.items():
        if isinstance(value, Mapping):
            found += _secrets(value, f"{where}.{name}")
        elif is_secret_name(name):
            found.append(
                f"{where}.{name}: secrets don't belong in this file; use the adapter's environment variables"
            )
    return found


def _factory_problem(name: str, table: Mapping[str, Any]) -> str | None:
    """Return what is wrong with a short name."""
    if FACTORY not in table:
        return None
    if ":" in name:
        return f"adapters.{name}.{FACTORY}: the table's name says it already; leave {FACTORY} out"
    if not isinstance(table[FACTORY], str) or not table[FACTORY]:
        return (
            f"adapters.{name}.{FACTORY}: write what {name} stands for: "
            '"module:factory", or the name of an installed adapter'
        )
    return None
