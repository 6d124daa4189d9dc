"""From a name to an adapter: an installed package's entry point, or ``module:factory``."""

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

from writeahead import _plugins
from writeahead.adapters.base import Adapter
from writeahead.errors import InvalidInput

__all__ = ["installed_adapters", "open_adapter"]

GROUP = "writeahead.adapters"
Factory: TypeAlias = Callable[..., object]

_NO_SETTINGS: Mapping[str, Any] = MappingProxyType({})


def open_adapter(name: str, settings: Mapping[str, Any] = _NO_SETTINGS) -> Adapter:
    """Open the adapter of this name.

    Args:
        name: An entry point of the group ``writeahead.adapters``, e.g. ``dataverse``; or
            ``module:factory``, for a factory that can be imported. It comes from a flag or
            from settings, never from an artifact.
        settings: Keyword arguments for the factory.

    Returns:
        What the factory returned: ``factory(**settings)``.

    Raises:
        InvalidInput: The name is unknown, its module can't be imported, the factory does not take
            these settings, or what it returned is no `Adapter`.
        Exception: What the factory itself raises.
    """
    factory = _factory(name)
    _require_settings(name, factory, settings)
    adapter = factory(**settings)
    if not isinstance(adapter, Adapter):
        raise InvalidInput(
            f"adapter {name!r}: its factory returned {type(adapter).__name__}, not a writeahead.Adapter"
        )
    return adapter


def installed_adapters() -> frozenset[str]:
    """Return the names that installed packages offer adapters under."""
    return _plugins.offered(GROUP)


def _factory(name: str) -> Factory:
    subject = f"adapter {name!r}"
    target = name if ":" in name else _plugins.find(GROUP, name, subject)
    if target is None:
        known = ", ".join(sorted(installed_adapters())) or "none"
        raise InvalidInput(f"{subject} is not installed; known: {known}. Or name your own as module:factory")
    # The extra of an adapter of our own has the name that it is installed under.
    extra = name if target.startswith("writeahead.") and target != name else None
    factory = _plugins.load(target, subject, "my_crm:make_adapter", extra=extra)
    if not callable(factory):
        module, _, attribute = target.partition(":")
        raise InvalidInput(f"{subject}: {attribute} in {module} is no factory: it can't be called")
    return factory


def _require_settings(name: str, factory: Factory, settings: Mapping[str, Any]) -> None:
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
            f"adapter {name!r}: the settings in [adapters.{_toml_key(name)}] do not fit its factory: {error};"
            f" it takes: {takes}"
        ) from None


def _toml_key(name: str) -> str:
    return f'"{name}"' if ":" in name or "." in name else name
