"""Plug-ins of installed packages: from a name in an entry point group to the object behind it."""

from importlib import import_module
from importlib.metadata import entry_points
from operator import attrgetter

from writeahead._extras import requires_extra
from writeahead.errors import InvalidInput

__all__ = ["find", "load", "offered"]


def offered(group: str) -> frozenset[str]:
    """Return the names that installed packages offer in an entry point group."""
    return frozenset(entry_points(group=group).names)


def find(group: str, name: str, subject: str) -> str | None:
    """Return the target of a plug-in, as ``module:attribute``; None if no package offers it.

    Args:
        group: The entry point group.
        name: The name of the entry point.
        subject: What an error begins with, e.g. ``adapter 'crm'``.

    Raises:
        InvalidInput: Several packages offer different targets under this name.
    """
    targets = {point.value for point in entry_points(group=group, name=name)}
    if len(targets) > 1:
        raise InvalidInput(f"{subject}: more than one installed package offers it; uninstall all but one")
    return targets.pop() if targets else None


def load(target: str, subject: str, example: str, *, extra: str | None = None) -> object:
    """Import a target and return the object.

    Args:
        target: ``module:attribute``.
        subject: What an error begins with.
        example: A target of the right form, for the error about a wrong one.
        extra: The extra of ours that brings what it needs; by default that of the missing package.

    Raises:
        InvalidInput: The target has another form, its module can't be imported, or has no such
            attribute.
    """
    module_name, _, attribute = target.partition(":")
    if not module_name or not attribute:
        raise InvalidInput(f"{subject}: write module:factory, e.g. {example}")
    try:
        with requires_extra(subject, extra):
            module = import_module(module_name)
    except InvalidInput:
        raise
    except Exception as error:
        raise InvalidInput(f"{subject}: module {module_name} can't be imported: {_reason(error)}") from error
    try:
        return attrgetter(attribute)(module)
    except AttributeError:
        raise InvalidInput(f"{subject}: module {module_name} has no {attribute!r}") from None


def _reason(error: Exception) -> str:
    """What stopped an import. The message of any other exception may hold secrets."""
    if isinstance(error, ImportError | SyntaxError):
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    return f"it raised {type(error).__name__}"
