"""From a name to an adapter: an installed package's entry point, or ``module:factory``."""

import inspect
import json
import re
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

from writeahead import _plugins
from writeahead.adapters.base import Adapter
from writeahead.errors import InvalidInput, WriteaheadError

__all__ = ["adapter_factory", "installed_adapters", "open_adapter", "toml_key"]

GROUP = "writeahead.adapters"
Factory: TypeAlias = Callable[..., object]

# https://toml.io/en/v1.0.0#keys
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_EMPTY: Mapping[str, Any] = MappingProxyType({})


def open_adapter(
    name: str,
    settings: Mapping[str, Any] = _EMPTY,
    *,
    aliases: Mapping[str, str] = _EMPTY,
    source: str = "",
) -> Adapter:
    """Open the adapter of this name.

    Args:
        name: An entry point of the group ``writeahead.adapters``, e.g. ``dataverse``; or
            ``module:factory``, for a factory that can be imported; or one of the aliases. It comes
            from a flag or from settings, never from an artifact.
        settings: Keyword arguments for the factory.
        aliases: Short names of the caller's, each with one of the first two that it stands for.
        source: Where the name comes from, e.g. ``--adapter``: errors begin with it.

    Returns:
        What the factory returned: ``factory(**settings)``.

    Raises:
        InvalidInput: The name is unknown, its module can't be imported, the factory does not take
            these settings, or what it returned is no `Adapter`.
        Exception: What else the factory itself raises; of a TypeError or ValueError, the settings
            are at fault.
    """
    factory = adapter_factory(name, settings, aliases=aliases, source=source)
    try:
        adapter = factory(**settings)
    except (TypeError, ValueError) as error:
        if isinstance(error, WriteaheadError):
            raise
        # Of a value of the wrong type, most likely. The message may hold a secret.
        subject, what = _subject(name, aliases, source), type(error).__name__
        raise InvalidInput(f"{subject}: its factory raised {what}: check its settings") from error
    if not isinstance(adapter, Adapter):
        raise InvalidInput(
            f"{_subject(name, aliases, source)}: its factory returned {type(adapter).__name__}, "
            "not a writeahead.Adapter"
        )
    return adapter


def adapter_factory(
    name: str,
    settings: Mapping[str, Any] | None = None,
    *,
    aliases: Mapping[str, str] = _EMPTY,
    source: str = "",
) -> Factory:
    """Find the factory of an adapter; it is not called.

    Args:
        name: As for `open_adapter`, and so are ``aliases`` and ``source``.
        settings: The keyword arguments that it should take, if that is to be checked.
        aliases: See there.
        source: See there.

    Raises:
        InvalidInput: As `open_adapter`.
    """
    subject = _subject(name, aliases, source)
    # What an alias stands for is no alias again.
    known = installed_adapters() if name in aliases else {*installed_adapters(), *aliases}
    factory = _factory(aliases.get(name, name), subject, known=known)
    if settings is not None:
        _require_settings(name, factory, settings, subject)
    return factory


def installed_adapters() -> frozenset[str]:
    """Return the names that installed packages offer adapters under."""
    return _plugins.offered(GROUP)


def _subject(name: str, aliases: Mapping[str, str], source: str) -> str:
    """Return what errors begin with."""
    stands_for = f" ({aliases[name]})" if name in aliases else ""
    return f"{f'{source}: ' if source else ''}adapter {name!r}{stands_for}"


def _factory(name: str, subject: str, *, known: Collection[str]) -> Factory:
    target = name if ":" in name else _plugins.find(GROUP, name, subject)
    if target is None:
        raise InvalidInput(
            f"{subject} is not installed; known: {', '.join(sorted(known)) or 'none'}. "
            "Or name your own as module:factory"
        )
    # The extra of an adapter of our own has the name that it is installed under.
    extra = name if target.startswith("writeahead.") and target != name else None
    factory = _plugins.load(target, subject, "my_crm:make_adapter", extra=extra)
    if not callable(factory):
        module, _, attribute = target.partition(":")
        raise InvalidInput(f"{subject}: {attribute} in {module} is no factory: it can't be called")
    return factory


def _require_settings(name: str, factory: Factory, settings: Mapping[str, Any], subject: str) -> None:
    """Tell a wrong setting from a TypeError inside the factory."""
    try:
        signature = inspect.signature(factory)
    except ValueError:
        return  # written in C: its own error has to do
    try:
        signature.bind(**settings)
    except TypeError as error:
        takes = ", ".join(signature.parameters) or "none"
        raise InvalidInput(
            f"{subject}: the settings in [adapters.{toml_key(name)}] do not fit its factory: {error};"
            f" it takes: {takes}"
        ) from None


def toml_key(name: str) -> str:
    """Return a name as a key of TOML: quoted if it is no bare key."""
    return name if _BARE_KEY.fullmatch(name) else json.dumps(name, ensure_ascii=False)
