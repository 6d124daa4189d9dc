"""Models that leave fields out of their JSON while these are unset.

pydantic has it as ``Field(exclude_if=...)`` from version 2.12 on
(https://docs.pydantic.dev/latest/concepts/fields/). This does the same on earlier ones, which
programs that use writeahead may be bound to.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import BaseModel, SerializerFunctionWrapHandler, model_serializer

__all__ = ["LeftOut", "Sparse", "is_none", "is_unset"]


def is_unset(value: Any) -> bool:
    """Leave a field out while it is unset: artifacts of earlier versions stay as they are."""
    return not value


def is_none(value: Any) -> bool:
    """Leave a field out while it is None; what is empty stays."""
    return value is None


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Marks a field of a `Sparse` model, in its annotation: ``Annotated[int, LeftOut(is_unset)]``.

    Attributes:
        when: Whether a value is left out. It gets the value as it would be written.
    """

    when: Callable[[Any], bool]


class Sparse(BaseModel):
    """A model that leaves a field out of every dump while its `LeftOut` says so."""

    _left_out: ClassVar[tuple[tuple[str, Callable[[Any], bool]], ...]] = ()

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Read the marks off the class, once it has its fields."""
        super().__pydantic_init_subclass__(**kwargs)
        cls._left_out = tuple(
            (name, mark.when)
            for name, field in cls.model_fields.items()
            for mark in field.metadata
            if isinstance(mark, LeftOut)
        )

    # Without an annotation of what it returns: by one, pydantic would describe that in a JSON
    # schema, in place of the model.
    @model_serializer(mode="wrap")
    def _without_what_is_unset(self, handler: SerializerFunctionWrapHandler):  # type: ignore[no-untyped-def]  # noqa: ANN202
        document = handler(self)
        for name, is_left_out in self._left_out:
            if name in document and is_left_out(document[name]):
                del document[name]
        return document
