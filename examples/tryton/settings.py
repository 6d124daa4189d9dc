"""A `TrytonAdapter` out of settings and the environment."""

import os
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field, SecretStr, field_validator

from tryton.adapter import TrytonAdapter
from writeahead.adapters.settings import AdapterSettings, Text, takes
from writeahead.errors import InvalidInput

__all__ = ["TrytonSettings", "adapter_from_settings"]


class TrytonSettings(AdapterSettings):
    """The settings of a `TrytonAdapter`, each with an environment variable, such as ``TRYTON_URL``.

    The password comes from ``TRYTON_PASSWORD`` or from code, and not as text from a settings file.
    """

    prefix: ClassVar[str] = "TRYTON_"

    url: Text = Field(default="", description="text")
    database: Text = Field(default="", description="text")
    user: Text = Field(default="", description="text")
    password: SecretStr = Field(default=SecretStr(""), description="a secret")

    @field_validator("password", mode="before")
    @classmethod
    def _no_plain_text(cls, value: object) -> object:
        if not isinstance(value, SecretStr):
            raise ValueError("plain text")  # noqa: TRY004 - what pydantic expects
        return value


@takes(TrytonSettings)
def adapter_from_settings(*, environ: Mapping[str, str] = os.environ, **settings: Any) -> TrytonAdapter:
    """Make a `TrytonAdapter` by ``tryton:adapter_from_settings``.

    Args:
        environ: Where to look for what is not given.
        settings: As the attributes of `TrytonSettings`.

    Raises:
        InvalidInput: A setting is missing, unknown or can't be used.
    """
    found = TrytonSettings.read(settings, environ)
    for problem in found.require("url", "database", "user", "password"):
        raise InvalidInput(problem)
    return TrytonAdapter(found.url, found.database, found.user, found.password)
