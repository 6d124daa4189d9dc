"""The settings of an adapter: a pydantic model, filled from code and environment variables.

class CrmSettings(AdapterSettings):
    prefix = "CRM_"
    url: Text | None = Field(default=None, description="text")

@takes(CrmSettings)
def adapter_from_settings(**given):
    settings = CrmSettings.read(given, os.environ)      # url from CRM_URL, if it is not given
"""

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, StringConstraints

from writeahead._validation import Invalid, validated
from writeahead.errors import InvalidInput

__all__ = ["AdapterSettings", "Text", "WholeNumber", "settings_model", "takes"]

_Factory = TypeVar("_Factory", bound=Callable[..., object])
_DIGITS = re.compile(r"[0-9]{1,9}")


def _whole(value: object) -> object:
    if isinstance(value, str) and _DIGITS.fullmatch(value.strip()):
        return int(value)
    if type(value) is not int:
        raise ValueError("not a whole number")
    return value


Text = Annotated[str, StringConstraints(strict=True, strip_whitespace=True)]
# An environment variable holds it as digits.
WholeNumber = Annotated[int, BeforeValidator(_whole), Field(ge=1)]


class AdapterSettings(BaseModel):
    """Base of an adapter's settings.

    Each field ends its sentence "<variable> must be ..." by its ``description``.

    Attributes:
        prefix: What the environment variables begin with; the rest is the field's name in capitals.
        code_only: Fields that no environment variable stands for.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", arbitrary_types_allowed=True, hide_input_in_errors=True
    )

    prefix: ClassVar[str]
    code_only: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def read(cls, given: Mapping[str, Any], environ: Mapping[str, str]) -> Self:
        """Take each setting as it is given, else from the environment, else its default.

        Args:
            given: Settings by name; what is None or empty counts as not given.
            environ: The environment variables.

        Raises:
            InvalidInput: A setting is unknown or can't be used. The message names it, and never
                repeats its value.
        """
        if not isinstance(environ, Mapping):
            raise InvalidInput("setting environ must be a mapping of environment variables")
        unknown = sorted(set(given) - set(cls.model_fields))
        if unknown:
            raise InvalidInput(f"there is no setting {unknown[0]}; there are: {', '.join(cls.model_fields)}")
        values: dict[str, Any] = {}
        for name, variable in cls.origins(given, environ).items():
            value = given[name] if variable is None else environ[variable]
            values[name] = SecretStr(value) if variable and cls.is_secret(name) else value
        found = validated(lambda: cls.model_validate(values))
        if not isinstance(found, Invalid):
            return found
        place = found.problems[0].place
        if not place:  # a validator of the whole model, whose words may hold values
            raise InvalidInput(f"the settings {cls.prefix}... do not go together")
        name = str(place[0])
        raise InvalidInput(cls._refusal(name, is_given=given.get(name) not in (None, "")))

    @classmethod
    def origins(cls, given: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, str | None]:
        """Name the environment variable that each setting comes from; None if it is given.

        A setting that neither gives, and that has its default so, is left out.
        """
        found: dict[str, str | None] = {
            name: None for name, value in given.items() if value is not None and value != ""
        }
        for name in cls.model_fields.keys() - found.keys() - cls.code_only:
            if environ.get(cls.variable(name)):
                found[name] = cls.variable(name)
        return found

    @classmethod
    def variable(cls, name: str) -> str:
        """Return the environment variable of a field."""
        return cls.prefix + name.upper()

    def require(self, *names: str) -> tuple[str, ...]:
        """Name the variables of settings that are missing, in one line; none if none is."""
        missing = [self.variable(name) for name in names if not _text(getattr(self, name))]
        return (f"{', '.join(missing)} not set: put them in the environment",) if missing else ()

    @classmethod
    def _refusal(cls, name: str, *, is_given: bool) -> str:
        if cls.is_secret(name):
            return f"{name} is not for a settings file: put {cls.variable(name)} in the environment"
        said = f"setting {name}" if is_given else cls.variable(name)
        return f"{said} must be {cls.model_fields[name].description}"

    @classmethod
    def is_secret(cls, name: str) -> bool:
        """Tell whether a field is a secret, which is not for a settings file."""
        annotation = cls.model_fields[name].annotation
        return SecretStr in (annotation, *getattr(annotation, "__args__", ()))


def takes(model: type[AdapterSettings]) -> Callable[[_Factory], _Factory]:
    """Mark the factory of an adapter by the settings that it takes.

    ``writeahead settings`` and ``writeahead init`` show them.
    """

    def mark(factory: _Factory) -> _Factory:
        factory.settings_model = model  # type: ignore[attr-defined]
        return factory

    return mark


def settings_model(factory: object) -> type[AdapterSettings] | None:
    """Return the settings that a factory is marked by."""
    model: type[AdapterSettings] | None = getattr(factory, "settings_model", None)
    return model


def _text(value: object) -> object:
    return value.get_secret_value().strip() if isinstance(value, SecretStr) else value
