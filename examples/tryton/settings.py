"""A `TrytonAdapter` out of settings and the environment."""

import os
from collections.abc import Mapping

from pydantic import SecretStr

from tryton.adapter import TrytonAdapter
from writeahead.errors import InvalidInput

__all__ = ["adapter_from_settings"]


def adapter_from_settings(
    *,
    url: str | None = None,
    database: str | None = None,
    user: str | None = None,
    password: SecretStr | None = None,
    environ: Mapping[str, str] = os.environ,
) -> TrytonAdapter:
    """Make a `TrytonAdapter`; this is the entry point ``tryton``.

    Args:
        url: The server; else ``TRYTON_URL``.
        database: Its name; else ``TRYTON_DATABASE``.
        user: The login; else ``TRYTON_USER``.
        password: Else ``TRYTON_PASSWORD``, where it is better off.
        environ: Where to look for what is not given.

    Raises:
        InvalidInput: A setting is missing or can't be used.
    """
    for name, value in {"url": url, "database": database, "user": user}.items():
        if not isinstance(value, str | None):
            raise InvalidInput(f"setting {name} must be text, not {type(value).__name__}")
    if not isinstance(password, SecretStr | None):
        raise InvalidInput("password is not for a settings file: put TRYTON_PASSWORD in the environment")
    given = {
        "TRYTON_URL": url,
        "TRYTON_DATABASE": database,
        "TRYTON_USER": user,
        "TRYTON_PASSWORD": password.get_secret_value() if password else None,
    }
    found = {name: value or environ.get(name, "") for name, value in given.items()}
    missing = [name for name, value in found.items() if not value]
    if missing:
        raise InvalidInput(f"{', '.join(missing)} not set: put them in the environment")
    return TrytonAdapter(
        found["TRYTON_URL"],
        found["TRYTON_DATABASE"],
        found["TRYTON_USER"],
        SecretStr(found["TRYTON_PASSWORD"]),
    )
