"""The text of a new settings file: every key that counts, with its default as a comment.

It is made from the models themselves, so that it says what they do. ``#key = value`` stands for a
default; what has no default that TOML can hold is a sentence.
"""

import inspect
import json
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from writeahead.adapters.registry import toml_key
from writeahead.adapters.settings import settings_model
from writeahead.cli.secret_values import is_secret_name
from writeahead.cli.settings import OUTDATED
from writeahead.cli.settings_file import FACTORY
from writeahead.policy import RunPolicy

__all__ = ["settings_template"]

_WIDTH = 98
_HEAD = (
    "The settings of the command writeahead. A line that begins with # and a key shows a default: "
    "to change it, take the # away. Flags and variables (WRITEAHEAD_STORE, WRITEAHEAD_ATTEMPTS, ...) "
    "win over this file; 'writeahead settings' shows what counts. Secrets don't belong here."
)


def settings_template(
    *, store: str | None, adapter: str | None, factory: Callable[..., object] | None, installed: str
) -> str:
    """Return the text of a settings file.

    Args:
        store: The store's URL, to be set; without it, an example is a comment.
        adapter: The adapter's name or ``module:factory``, likewise.
        factory: That adapter's factory, whose settings get a table.
        installed: The names of the installed adapters, to choose from.
    """
    lines = [
        *_prose(_HEAD),
        "",
        *_prose("Where artifacts are kept: a folder, or a bucket as s3://bucket/prefix."),
        f"store = {_toml(store)}" if store else '#store = "./artifacts"',
        "",
        *_prose(
            f"The adapter for the remote system: an installed one ({installed}), your own as "
            "module:factory, or the short name of a table below."
        ),
        f"adapter = {_toml(adapter)}" if adapter else '#adapter = "dataverse"',
        "",
        "[policy]",
        *_fields(RunPolicy, {name: name for name in RunPolicy.model_fields if name != OUTDATED}),
        "",
        *(_table(adapter, factory) if adapter and factory else _example()),
    ]
    return "\n".join(lines) + "\n"


def _example() -> Iterator[str]:
    yield from _prose(
        "Your own adapter under a short name, to be chosen by adapter = above or by --adapter. "
        f"What stands beside {FACTORY} are its settings."
    )
    yield "#[adapters.crm]"
    yield f'#{FACTORY} = "my_crm:make_adapter"'


def _table(adapter: str, factory: Callable[..., object]) -> Iterator[str]:
    yield f"[adapters.{toml_key(adapter)}]"
    model = settings_model(factory)
    if model is None:
        for parameter in inspect.signature(factory).parameters.values():
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                required = parameter.default is parameter.empty
                yield from _key(parameter.name, None if required else parameter.default)
        return
    in_file = {
        name: f"{name} ({model.variable(name)})"
        for name in model.model_fields
        if not model.is_secret(name) and name not in model.code_only
    }
    yield from _prose("The variable in parentheses stands for a key that is not set here.")
    yield from _fields(model, in_file)
    for name in model.model_fields:
        if model.is_secret(name):
            yield from _prose(f"{model.variable(name)} is a secret: put it in the environment.")


def _fields(model: type[BaseModel], shown: Mapping[str, str]) -> Iterator[str]:
    texts = _attribute_texts(model)
    for name, called in shown.items():
        field = model.model_fields[name]
        text = texts.get(name) or field.description or ""
        yield from _prose(f"{called}: {text}")
        yield from _key(name, field.get_default(call_default_factory=True))


def _key(name: str, default: Any) -> Iterator[str]:
    if is_secret_name(name):
        yield from _prose(f"{name} is a secret, which does not belong here.")
    elif isinstance(default, str | int | float):
        yield f"#{name} = {_toml(default)}"
    else:
        yield from _prose(f"There is no {name} in this file by default.")


def _toml(value: Any) -> str:
    # As TOML's basic strings, booleans and numbers: https://toml.io/en/v1.0.0
    return json.dumps(value, ensure_ascii=False)


def _prose(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent="# ", subsequent_indent="# ")


def _attribute_texts(model: type[BaseModel]) -> dict[str, str]:
    """Return what a model's docstring says of each attribute, below ``Attributes:``."""
    section = (inspect.getdoc(model) or "").partition("Attributes:\n")[2]
    found: dict[str, str] = {}
    for name, text in re.findall(r"^    (\w+): (.*(?:\n {5,}.*)*)", section, re.MULTILINE):
        found[name] = " ".join(text.replace("`", "").split())
    return found
