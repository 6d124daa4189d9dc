"""Texts of a draft are cut to what their columns hold, where the mapping says ``shorten``."""

from collections.abc import Mapping
from dataclasses import replace

from writeahead.adapters.dataverse.mapping.free_texts import cut, shortened_columns, units
from writeahead.adapters.dataverse.mapping.plans import Draft, StoredValue
from writeahead.adapters.dataverse.webapi.names import Scalar

__all__ = ["shortened"]


def shortened(draft: Draft, lengths: Mapping[str, int]) -> Draft:
    """Cut the texts that the mapping lets be cut, with a warning for each.

    Args:
        draft: What is planned.
        lengths: Units of UTF-16, by column. A column that is not there is left as it is.
    """
    columns: dict[str, Scalar] = {}
    stored: dict[str, StoredValue] = {}
    for column, name in shortened_columns(draft.table).items():
        text, most = draft.write.columns.get(column), lengths.get(column)
        if isinstance(text, str) and most is not None and units(text) > most:
            columns[column] = cut(text, most)
            stored[column] = StoredValue(
                warning=f"{name} is cut to the {most} characters that its column holds, of {units(text)}"
            )
    if not columns:
        return draft
    write = draft.write.model_copy(update={"columns": {**draft.write.columns, **columns}})
    return replace(draft, write=write, stored={**draft.stored, **stored})
