"""Columns that hold what writeahead itself has to say of a row: its marker, and warnings.

Sources, learn.microsoft.com: "Column types in Microsoft Dataverse" (a single line of text has 100
characters by default, and 4,000 at most), "nchar and nvarchar (Transact-SQL)" (a length counts
pairs of bytes, which are UTF-16 units).
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from writeahead.adapters.dataverse.webapi.names import Scalar

__all__ = ["Marker", "OwnColumns", "WarningsColumn"]

_DEFAULT_LENGTH = 100
_DIGEST = 16
_CUT = "..."

_Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,127}$")]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Marker(_Model):
    """The columns that say which operation wrote a row last: one for each id, or one for both.

    One column for both holds ``<session>/<operation>``. What is longer than the column becomes
    ``<session>~<digest>``: the session's id, cut if need be, and 16 hex digits of the sha256 of the
    whole. No id has one of these two signs in it, so the two forms are never the same.

    Attributes:
        session: Holds the session's id; without ``operation``, both ids.
        operation: Holds the operation's id.
        length: How many characters the one column holds. It decides what is written, so a row that
            was marked under another length may not be known again.
    """

    session: _Name
    operation: _Name | None = None
    length: int = Field(default=_DEFAULT_LENGTH, strict=True, ge=40, le=4000)

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if self.operation is not None and "length" in self.model_fields_set:
            raise ValueError("length is for a marker of one column: with operation, leave it out")
        return self

    @property
    def columns(self) -> list[str]:
        """All of them."""
        return [self.session] if self.operation is None else [self.session, self.operation]

    @property
    def told_by(self) -> str:
        """The column that tells the operations of one session from each other."""
        return self.operation or self.session

    def mark(self, session_id: str, operation_id: str) -> dict[str, Scalar]:
        """What the columns are to hold."""
        if self.operation is not None:
            return {self.session: session_id, self.operation: operation_id}
        whole = f"{session_id}/{operation_id}"
        if len(whole) > self.length:
            digest = hashlib.sha256(whole.encode()).hexdigest()[:_DIGEST]
            whole = f"{session_id[: self.length - _DIGEST - 1]}~{digest}"
        return {self.session: whole}

    def is_in(
        self, columns: Mapping[str, object], written: Mapping[str, Scalar], later: Sequence[str]
    ) -> bool:
        """Whether a row has the marker of an operation, or of a later one of its session.

        Args:
            columns: The row's.
            written: What the operation writes.
            later: What later operations on the row write into the column `told_by`.
        """
        if self.operation is not None and columns.get(self.session) != written[self.session]:
            return False
        return columns.get(self.told_by) in {written[self.told_by], *later}


class WarningsColumn(_Model):
    """The column that the warnings of a plan are written into.

    Attributes:
        column: A text column of the table.
        length: How many characters it holds; what is longer is cut.
    """

    column: _Name
    length: int = Field(default=_DEFAULT_LENGTH, strict=True, ge=20, le=100_000)

    def text(self, warnings: Sequence[str]) -> str:
        """The warnings as they are written, in no more UTF-16 units than the column holds."""
        whole = _joined(warnings)
        units = whole.encode("utf-16-le", "replace")
        if len(units) <= 2 * self.length:
            return units.decode("utf-16-le")
        # Half a pair at the end is left out.
        return units[: 2 * (self.length - len(_CUT))].decode("utf-16-le", "ignore") + _CUT

    def is_text(self, text: object, warnings: Sequence[str]) -> bool:
        """Whether this is what was written of warnings, under this length or an earlier one."""
        whole = _joined(warnings)
        if not isinstance(text, str) or not text:
            return False
        return text == whole or (text.endswith(_CUT) and whole.startswith(text.removesuffix(_CUT)))


class OwnColumns(_Model):
    """What a table has of them.

    Attributes:
        marker: Which operation wrote the row last.
        warnings_to: The column that the plan's warnings are written into; a string is its name.
    """

    marker: Marker | None = None
    warnings_to: WarningsColumn | None = None

    @field_validator("warnings_to", mode="before")
    @classmethod
    def _accept_name(cls, value: Any) -> Any:
        return {"column": value} if isinstance(value, str) else value

    def marker_columns(self) -> list[str]:
        """The columns of the marker, if there is one."""
        return self.marker.columns if self.marker else []

    def own_columns(self) -> list[str]:
        """The columns that hold what writeahead says of the row; no payload may name one."""
        return [*self.marker_columns(), *([self.warnings_to.column] if self.warnings_to else [])]

    def note(self, warnings: Sequence[str]) -> dict[str, Scalar]:
        """What is written of the warnings of a plan: nothing if there are none, or no column."""
        return (
            {self.warnings_to.column: self.warnings_to.text(warnings)}
            if self.warnings_to and warnings
            else {}
        )

    def longest(self) -> dict[str, Scalar]:
        """Texts as long as the columns must hold, by what the mapping says of their lengths."""
        one = self.marker if self.marker and self.marker.operation is None else None
        lengths = {one.session: one.length} if one else {}
        lengths |= {self.warnings_to.column: self.warnings_to.length} if self.warnings_to else {}
        return {name: "x" * length for name, length in lengths.items()}

    def mark(self, session_id: str, operation_id: str) -> dict[str, Scalar]:
        """What the marker of an operation is to hold."""
        return self.marker.mark(session_id, operation_id) if self.marker else {}

    def mark_of(self, columns: Mapping[str, Scalar]) -> str | None:
        """What a write puts into the column that tells its operation; None without a marker."""
        mark = columns.get(self.marker.told_by) if self.marker else None
        return mark if isinstance(mark, str) else None


def _joined(warnings: Sequence[str]) -> str:
    return "; ".join(warnings)
