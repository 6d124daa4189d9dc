"""The settings of a command: flags, then ``WRITEAHEAD_*``, then ``writeahead.toml``.

`writeahead.cli.settings_file` has the form of the file.
"""

import re
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from writeahead._validation import Invalid, Problem, validated
from writeahead.adapters.registry import installed_adapters
from writeahead.cli.settings_file import CONFIG_FILE, FACTORY, SettingsFile, did_you_mean, read_settings_file
from writeahead.errors import InvalidInput
from writeahead.policy import RunPolicy

__all__ = ["OUTDATED", "Settings", "config_path", "gather_settings", "load_settings"]

_PREFIX = "WRITEAHEAD_"
OUTDATED = "journal"
# Other words for the same thing: what a source says puts these of lower sources aside.
_OTHER_WORDS = {
    OUTDATED: {"journal_interval"},
    "journal_interval": {OUTDATED},
    "waits": {"wait_initial", "wait_max"},
    "wait_initial": {"waits"},
    "wait_max": {"waits"},
}
# What stands behind the prefix in the names of variables.
_KNOWN = [name.upper() for name in ("store", "adapter", "config", "debug", *RunPolicy.model_fields)]
# What the tests and checks of this project read, so that a developer's environment is no error.
_OF_THE_TESTS = {
    *(
        "AIRFLOW",
        "AS_ON_WINDOWS",
        "CAP",
        "DEPTH",
        "DYNAMICS_WEB_API",
        "OLD_PYTHON",
        "SEED",
        "SERVERS",
        "TESTS",
    ),
    *("S3_BUCKET", "S3_LISTED", "S3_OPTIONS", "S3_SERVER", "S3_URL", "WEB"),
}
# What Kubernetes sets in every container of a namespace for a service that is named writeahead, or
# writeahead-...: https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables.
_OF_A_SERVICE = re.compile(
    r"(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)", re.ASCII
)


@dataclass(frozen=True)
class Settings:
    """The settings of one command.

    Attributes:
        policy: How hard to try.
        store: The store's URL, if any source gave one.
        adapter: The adapter's name, short name or ``module:factory``, if any source gave one.
        adapters: From the file: the table of each adapter, by the name that selects it.
        aliases: From the file: what each short name stands for.
        sources: Where each value comes from, in the words of errors; by the names of the fields of
            this class and of `RunPolicy`. A default has no source.
        file: The settings file that was read, if there is one.
        problems: Why these settings can't be used; none from `load_settings`.
        warnings: What is wrong, but no reason to refuse it.
    """

    policy: RunPolicy
    store: str | None = None
    adapter: str | None = None
    adapters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    file: Path | None = None
    problems: Sequence[str] = ()
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

    def adapter_settings(self, name: str | None = None) -> Mapping[str, Any]:
        """Return the keyword arguments for an adapter's factory, by default the chosen one's."""
        table = self.adapters.get(name or self.adapter or "", {})
        return {key: value for key, value in table.items() if key != FACTORY}


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
            key, a table or a variable is unknown, or a value can't be used. The message names the
            first place.
    """
    found = gather_settings(environ=environ, config=config, store=store, adapter=adapter, policy=policy)
    if found.problems:
        first, *others = found.problems
        more = f" (and {len(others)} more: 'writeahead settings' shows all)" if others else ""
        raise InvalidInput(first + more)
    return found


def gather_settings(
    *,
    environ: Mapping[str, str],
    config: Path | None = None,
    store: str | None = None,
    adapter: str | None = None,
    policy: Mapping[str, Any] | None = None,
) -> Settings:
    """Merge as `load_settings` does; what is wrong is left out and named in ``problems``."""
    path, is_named = config_path(config, environ)
    file = read_settings_file(path, must_exist=is_named)
    given = {
        "store": _given("store", store, environ, file.store, file),
        "adapter": _given("adapter", adapter, environ, file.adapter, file),
    }
    flags = {name: value for name, value in (policy or {}).items() if value is not None}
    tried = _policy(flags, environ, file)
    asked_for = {value for value, _ in given["adapter"]}
    return Settings(
        policy=tried.policy,
        store=next((value for value, _ in given["store"]), None),
        adapter=next((value for value, _ in given["adapter"]), None),
        adapters=file.adapters,
        aliases=file.aliases(),
        sources={name: found[0][1] for name, found in given.items() if found} | tried.sources,
        file=path if file.is_there else None,
        problems=(
            *file.problems,
            *_unknown_variables(environ),
            *tried.problems,
            *map(file.place, _wrong_tables(file, asked_for)),
        ),
        warnings=(*file.warnings, *tried.warnings),
    )


def config_path(config: Path | None, environ: Mapping[str, str]) -> tuple[Path, bool]:
    """Return the path of the settings file, and whether a flag or a variable names it."""
    named = config or (Path(given) if (given := environ.get(f"{_PREFIX}CONFIG")) else None)
    return named or Path(CONFIG_FILE), named is not None


def _required(name: str, metavar: str, value: str | None) -> str:
    if value:
        return value
    raise InvalidInput(
        f"no {name} given: use --{name} {metavar}, {_PREFIX}{name.upper()}, or {name} = ... in {CONFIG_FILE}"
    )


def _given(
    name: str, flag: str | None, environ: Mapping[str, str], in_file: str | None, file: SettingsFile
) -> list[tuple[str, str]]:
    """Return each value that was given, with its source; the one that counts comes first."""
    variable = _PREFIX + name.upper()
    candidates = ((flag, f"--{name}"), (environ.get(variable), variable), (in_file, file.place(name)))
    return [(value, source) for value, source in candidates if value]


def _unknown_variables(environ: Mapping[str, str]) -> Iterator[str]:
    for variable, value in environ.items():
        name = variable.removeprefix(_PREFIX)
        if not value or name == variable or name in _KNOWN or name in _OF_THE_TESTS:
            continue
        if not _OF_A_SERVICE.fullmatch(name):
            advice = did_you_mean(name, _KNOWN, prefix=_PREFIX) or f"known: {_PREFIX}{', '.join(_KNOWN)}. "
            yield f"{variable}: there is no such setting; {advice}Unset it if it is for something else"


def _wrong_tables(file: SettingsFile, asked_for: Collection[str]) -> Iterator[str]:
    """Find tables below ``adapters`` that no command could use, and short names that are taken."""
    for name in file.adapters:
        stands_for = file.adapters[name].get(FACTORY, name)
        if stands_for != name and name in installed_adapters():
            yield f"adapters.{name}: an installed adapter has this name; choose another short name"
        if FACTORY in file.adapters[name]:
            continue
        # If no source names an adapter, each command gets its own by --adapter.
        if name in asked_for or (":" in name and not asked_for):
            continue
        if ":" in name:
            chosen = " or ".join(sorted(asked_for))
            yield (
                f'adapters."{name}": nothing uses this table, as the adapter is {chosen}. To choose '
                f'between several, give it a short name: [adapters.NAME] with {FACTORY} = "{name}"'
            )
        elif name not in installed_adapters():
            known = sorted({*installed_adapters(), *file.aliases(), *asked_for})
            yield (
                f"adapters.{name}: there is no such adapter; {did_you_mean(name, known)}"
                f"known: {', '.join(known)}. A short name for your own needs {FACTORY} = 'module:factory'"
            )


@dataclass(frozen=True)
class _Tried:
    policy: RunPolicy
    sources: dict[str, str]
    problems: Sequence[str]
    warnings: Sequence[str]


def _policy(flags: Mapping[str, Any], environ: Mapping[str, str], file: SettingsFile) -> _Tried:
    """Merge by field, and keep each value's source."""
    variables = {name: _PREFIX + name.upper() for name in RunPolicy.model_fields}
    found: dict[str, tuple[Any, str]] = {}
    # The last that has a value wins.
    for layer in (
        {name: (value, file.place(f"policy.{name}")) for name, value in file.policy.items()},
        {name: (environ[key], key) for name, key in variables.items() if environ.get(key)},
        {name: (value, "--" + name.replace("_", "-")) for name, value in flags.items()},
    ):
        aside = set().union(*(_OTHER_WORDS.get(name, ()) for name in layer))
        found = {name: one for name, one in found.items() if name not in aside} | layer
    problems: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DeprecationWarning)
        policy = validated(lambda: RunPolicy.model_validate(_values(found)))
        if isinstance(policy, Invalid):
            for name, problem in {str(item.place[0]): item for item in policy.problems}.items():
                value, source = found.pop(name)
                problems.append(f"{source}: {_described(name, problem, value)}")
            policy = RunPolicy.model_validate(_values(found))
    sources = {name: source for name, (_, source) in found.items()}
    where = sources.get(OUTDATED, "policy")
    return _Tried(policy, sources, problems, [f"{where}: {warning.message}" for warning in caught])


def _values(found: Mapping[str, tuple[Any, str]]) -> dict[str, Any]:
    return {name: value for name, (value, _) in found.items()}


def _described(name: str, problem: Problem, value: Any) -> str:
    if problem.kind == "extra_forbidden":
        if name in ("store", "adapter"):
            return f"unknown key here; {name} belongs above the first [table] of the file"
        fields = RunPolicy.model_fields
        return f"unknown key; {did_you_mean(name, fields)}known: {', '.join(fields)}"
    if isinstance(value, Mapping):
        return f"a table, where a value belongs: write {name} = VALUE below [policy]"
    return problem.message
