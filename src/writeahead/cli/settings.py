"""The settings of a command: flags, then ``WRITEAHEAD_*``, then ``writeahead.toml``.

The file has this form; every key is optional, and an unknown one is an error::

    store = "./artifacts"
    adapter = "dataverse"

    [policy]                    # the fields of writeahead.model.RunPolicy
    attempts = 4

    [adapters.dataverse]        # given to the adapter's factory as keyword arguments
    mapping = "mapping.toml"

Relative paths are taken from the working directory. Secrets do not belong in the file: adapters
take them from the environment. A file that names code to run (``module:factory``) is refused if
every user may write to it.
"""

import os
import re
import tomllib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from writeahead._validation import Invalid, Problem, validated
from writeahead.cli.permissions import checked_code_source
from writeahead.errors import InvalidInput
from writeahead.model import RunPolicy

__all__ = ["CONFIG_FILE", "Settings", "load_settings"]

CONFIG_FILE = "writeahead.toml"
_PREFIX = "WRITEAHEAD_"
# Other words for the same thing: what a source says puts these of lower sources aside.
_OTHER_WORDS = {
    "journal": {"journal_interval"},
    "journal_interval": {"journal"},
    "waits": {"wait_initial", "wait_max"},
    "wait_initial": {"waits"},
    "wait_max": {"waits"},
}
_SECRET = re.compile(r"(^|_)(secret|password|passwd|token|api_?key|access_?key|private_?key)$", re.IGNORECASE)


@dataclass(frozen=True)
class Settings:
    """The settings of one command.

    Attributes:
        policy: How hard to try.
        store: The store's URL, if any source gave one.
        adapter: The adapter's name or ``module:factory``, if any source gave one.
        adapters: From the file: keyword arguments for the factory of each adapter, by the name or
            ``module:factory`` that selects it.
        warnings: What is wrong with the file, but no reason to refuse it.
    """

    policy: RunPolicy
    store: str | None = None
    adapter: str | None = None
    adapters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    warnings: Sequence[str] = ()

    def require_store(self) -> str:
        """Return the store's URL.

        Raises:
            InvalidInput: No source gave one.
        """
        return _required("store", "URL", self.store)

    def require_adapter(self) -> str:
        """Return the adapter's name.

        Raises:
            InvalidInput: No source gave one.
        """
        return _required("adapter", "NAME", self.adapter)

    def adapter_settings(self) -> Mapping[str, Any]:
        """Return the keyword arguments for the adapter's factory."""
        return self.adapters.get(self.adapter or "", {})


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    store: str | None = None
    adapter: str | None = None
    policy: dict[str, Any] = Field(default_factory=dict)
    adapters: dict[str, dict[str, Any]] = Field(default_factory=dict)


def load_settings(
    *,
    environ: Mapping[str, str],
    config: Path | None = None,
    store: str | None = None,
    adapter: str | None = None,
    policy: Mapping[str, Any] | None = None,
) -> Settings:
    """Merge flags, environment and file; the first that has a value wins.

    Args:
        environ: The environment, e.g. ``os.environ``; an empty variable counts as absent.
        config: The file; by default ``WRITEAHEAD_CONFIG``, or ``writeahead.toml`` if that is there.
        store: The flag ``--store``.
        adapter: The flag ``--adapter``.
        policy: The flags that are fields of `RunPolicy`; None stands for a flag that was not given.

    Raises:
        InvalidInput: The file can't be read, or names code although every user may write to it; a
            key is unknown, or a value can't be used. The message names the place.
    """
    path, found, problems = _read_file(config, environ)
    flags = {name: value for name, value in (policy or {}).items() if value is not None}
    merged, outdated = _policy(flags, environ, found.policy, path)
    return Settings(
        policy=merged,
        store=store or environ.get(f"{_PREFIX}STORE") or found.store,
        adapter=adapter or environ.get(f"{_PREFIX}ADAPTER") or found.adapter,
        adapters=found.adapters,
        warnings=(*problems, *outdated),
    )


def _required(name: str, metavar: str, value: str | None) -> str:
    if value:
        return value
    raise InvalidInput(
        f"no {name} given: use --{name} {metavar}, {_PREFIX}{name.upper()}, or {name} = ... in {CONFIG_FILE}"
    )


def _read_file(config: Path | None, environ: Mapping[str, str]) -> tuple[Path, _File, Sequence[str]]:
    named = config or (Path(given) if (given := environ.get(f"{_PREFIX}CONFIG")) else None)
    path = named or Path(CONFIG_FILE)
    try:
        with path.open("rb") as file:
            mode, data = os.fstat(file.fileno()).st_mode, file.read()
    except FileNotFoundError:
        if named is None:
            return path, _File(), ()
        raise InvalidInput(f"settings {path}: there is no such file") from None
    except OSError as error:
        raise InvalidInput(f"settings {path}: can't be read: {error.strerror}") from None
    found = _parsed(path, data)
    names_code = ":" in (found.adapter or "")
    warning = checked_code_source(path, mode) if names_code else None
    return path, found, [warning] if warning else ()


def _parsed(path: Path, data: bytes) -> _File:
    try:
        content = tomllib.loads(data.decode())
    except UnicodeDecodeError as error:
        raise InvalidInput(f"settings {path}: byte {error.start} is not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(f"settings {path}: not TOML: {error}") from None
    found = validated(lambda: _File.model_validate(content))
    if isinstance(found, Invalid):
        problems = "; ".join(f"{item.where('it')}: {_described(item, _File)}" for item in found.problems)
        raise InvalidInput(f"settings {path}: {problems}")
    _refuse_secrets(found.adapters, f"settings {path}: adapters")
    return found


def _refuse_secrets(table: Mapping[str, Any], where: str) -> None:
    for name, value in table.items():
        if isinstance(value, Mapping):
            _refuse_secrets(value, f"{where}.{name}")
        elif _SECRET.search(name):
            raise InvalidInput(
                f"{where}.{name}: secrets don't belong in this file; use the adapter's environment variables"
            )


def _policy(
    flags: Mapping[str, Any], environ: Mapping[str, str], file: Mapping[str, Any], path: Path
) -> tuple[RunPolicy, list[str]]:
    """Merge by field, and keep each value's source for messages; also returns what is outdated."""
    variables = {name: _PREFIX + name.upper() for name in RunPolicy.model_fields}
    found: dict[str, tuple[Any, str]] = {}
    # The last that has a value wins.
    for layer in (
        {name: (value, f"settings {path}: policy.{name}") for name, value in file.items()},
        {name: (environ[key], key) for name, key in variables.items() if environ.get(key)},
        {name: (value, "--" + name.replace("_", "-")) for name, value in flags.items()},
    ):
        aside = set().union(*(_OTHER_WORDS.get(name, ()) for name in layer))
        found = {name: one for name, one in found.items() if name not in aside} | layer
    values = {name: value for name, (value, _) in found.items()}
    sources = {name: source for name, (_, source) in found.items()}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DeprecationWarning)
        policy = validated(lambda: RunPolicy.model_validate(values))
    if isinstance(policy, Invalid):
        first = policy.problems[0]
        raise InvalidInput(f"{sources[str(first.place[0])]}: {_described(first, RunPolicy)}")
    where = sources.get("journal", "policy")
    return policy, [f"{where}: {warning.message}" for warning in caught]


def _described(problem: Problem, model: type[BaseModel]) -> str:
    if problem.kind == "extra_forbidden":
        return f"unknown key; known: {', '.join(model.model_fields)}"
    return problem.message
