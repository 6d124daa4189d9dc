"""From a name to an adapter: an installed package's entry point, or ``module:factory``."""

import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from operator import attrgetter
from types import MappingProxyType
from typing import Any, TypeAlias

from writeahead._extras import requires_extra
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
            ``module:factory``, for a factory that can be imported. It comes from a person's flag or
            settings, and never from an artifact.
        settings: Keyword arguments for the factory.

    Returns:
        What the factory returned: ``factory(**settings)``.

    Raises:
        InvalidInput: The name is unknown, its module can't be imported, the factory does not take
            these settings, or what it returned is no `Adapter`.
        Exception: What the factory itself raises.
    """
    factory = _imported(name, name) if ":" in name else _installed(name)
    _require_settings(name, factory, settings)
    adapter = factory(**settings)
    if not isinstance(adapter, Adapter):
        raise InvalidInput(
            f"adapter {name!r}: its factory returned {type(adapter).__name__}, not a writeahead.Adapter"
        )
    return adapter


def installed_adapters() -> frozenset[str]:
    """Return the names that installed packages offer adapters under."""
    return frozenset(entry_points(group=GROUP).names)


def _installed(name: str) -> Factory:
    points = entry_points(group=GROUP)
    targets = {point.value for point in points if point.name == name}
    if not targets:
        known = ", ".join(sorted(points.names)) or "none"
        raise InvalidInput(
            f"adapter {name!r} is not installed; known: {known}. Or name your own as module:factory"
        )
    if len(targets) > 1:
        raise InvalidInput(
            f"adapter {name!r}: more than one installed package offers it; uninstall all but one"
        )
    return _imported(name, targets.pop())


def _imported(name: str, target: str) -> Factory:
    module_name, _, attribute = target.partition(":")
    if not module_name or not attribute:
        raise InvalidInput(f"adapter {name!r}: write module:factory, e.g. my_crm:make_adapter")
    # The extra of an adapter of our own has its name.
    extra = name if module_name.startswith("writeahead.") else None
    try:
        with requires_extra(f"adapter {name!r}", extra):
            module = import_module(module_name)
    except InvalidInput:
        raise
    except Exception as error:
        raise InvalidInput(
            f"adapter {name!r}: module {module_name} can't be imported: {_reason(error)}"
        ) from error
    try:
        factory = attrgetter(attribute)(module)
    except AttributeError:
        raise InvalidInput(f"adapter {name!r}: module {module_name} has no {attribute!r}") from None
    if not callable(factory):
        raise InvalidInput(
            f"adapter {name!r}: {attribute} in {module_name} is no factory: it can't be called"
        )
    return factory  # type: ignore[no-any-return]


def _reason(error: Exception) -> str:
    """Say what stopped an import; nobody vouches for what the message of any other exception holds."""
    if isinstance(error, ImportError | SyntaxError):
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    return f"it raised {type(error).__name__}"


def _require_settings(name: str, factory: Factory, settings: Mapping[str, Any]) -> None:
    """Tell a wrong setting from a TypeError inside the factory."""
    try:
        signature = inspect.signature(factory)
    except ValueError:
        return  # written in C: it will have to speak for itself
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
