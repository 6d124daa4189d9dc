"""The command that shows the settings which count, and where each comes from."""

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from writeahead.adapters.registry import adapter_factory, toml_key
from writeahead.adapters.settings import AdapterSettings, settings_model
from writeahead.cli import options, render
from writeahead.cli.context import CommandContext, import_from_here
from writeahead.cli.exit_code import ExitCode
from writeahead.cli.output import Answer
from writeahead.cli.secret_values import without_secrets
from writeahead.cli.settings import OUTDATED, Settings
from writeahead.errors import InvalidInput

__all__ = ["settings"]

_DEFAULT = "default"


@dataclass(frozen=True)
class _Line:
    """One setting: its value as it may be shown, and the flag, variable or key it comes from."""

    name: str
    value: Any
    source: str


@options.with_context(adapter=True, policy=True, checked=False)
def settings(*, context: CommandContext) -> Answer:
    """Show what settings count, and where each comes from.

    Secrets are hidden. If a setting is wrong, it is named, and the exit code is 2.
    """
    found = context.settings
    lines, wrong = _adapter_lines(found)
    lines = [*_own_lines(found), *lines]
    problems = [*found.problems, *_store_problems(context), *wrong]
    return Answer(
        lambda: {
            "file": found.file and str(found.file),
            "settings": [asdict(line) for line in lines],
            "problems": problems,
        },
        lambda console: render.show_settings(
            console, [(line.name, line.value, line.source) for line in lines], problems
        ),
        lambda: ExitCode.USAGE if problems else ExitCode.OK,
    )


def _own_lines(found: Settings) -> Iterator[_Line]:
    for name in ("store", "adapter"):
        value = getattr(found, name)
        yield _Line(name, without_secrets(value), _shown(found.sources.get(name, "not set")))
    for name, value in found.policy:
        if name != OUTDATED:
            source = found.sources.get(name)
            if name == "journal_interval":
                source = source or found.sources.get(OUTDATED)
            yield _Line(f"policy.{name}", without_secrets(value), _shown(source or _DEFAULT))


def _shown(source: str) -> str:
    return source.removeprefix("settings ")


def _store_problems(context: CommandContext) -> Iterator[str]:
    if context.settings.store:
        try:
            context.store()  # it connects to nothing
        except InvalidInput as error:
            yield str(error)


def _adapter_lines(found: Settings) -> tuple[list[_Line], list[str]]:
    """Return the settings of the chosen adapter, and what is wrong with them."""
    if not found.adapter:
        return [], []
    given, table = found.adapter_settings(), [*_table_lines(found)]
    try:
        import_from_here(found.aliases.get(found.adapter, found.adapter))
        factory = adapter_factory(
            found.adapter, given, aliases=found.aliases, source=found.sources["adapter"]
        )
    except InvalidInput as error:
        return table, [str(error)]
    model = settings_model(factory)
    if model is None:
        return table, []
    table = [*_table_lines(found, model)]
    lines = [*table, *_other_lines(found, model)]
    try:
        model.read(given, os.environ)
    except InvalidInput as error:
        return lines, [f"adapter {found.adapter!r}: {error}"]
    return lines, []


def _table_lines(found: Settings, model: type[AdapterSettings] | None = None) -> Iterator[_Line]:
    """Show what the file says for the chosen adapter, and which variables do not count for it."""
    for key, value in found.adapters.get(found.adapter or "", {}).items():
        name = _place(found, key)
        source = f"{found.file}: {name}"
        variable = model.variable(key) if model is not None and key in model.model_fields else ""
        if value != "" and os.environ.get(variable):
            source += f" ({variable} does not count)"
        yield _Line(name, without_secrets(value, key), source)


def _other_lines(found: Settings, model: type[AdapterSettings]) -> Iterator[_Line]:
    """Show what the file does not say for the chosen adapter: variables and defaults."""
    origins = model.origins(found.adapter_settings(), os.environ)
    for name, field in model.model_fields.items():
        variable = model.variable(name)
        if model.is_secret(name):
            yield _Line(_place(found, name), "set" if origins.get(name) else "not set", variable)
        elif origins.get(name):
            yield _Line(_place(found, name), without_secrets(os.environ[variable], name), variable)
        elif name not in origins and name not in model.code_only:
            default = field.get_default(call_default_factory=True)
            yield _Line(_place(found, name), without_secrets(default), _DEFAULT)


def _place(found: Settings, key: str) -> str:
    return f"adapters.{toml_key(found.adapter or '')}.{key}"
