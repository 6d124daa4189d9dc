"""The FILE of ``writeahead simulate dataverse --seed``: the rows to start with."""

from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from writeahead._validation import Invalid, validated
from writeahead.cli.session_file import read_json
from writeahead.errors import InvalidInput

__all__ = ["load_seed"]

_ROWS = TypeAdapter(dict[str, list[dict[str, Any]]])


def load_seed(file: str, db: Path) -> None:
    """Put the rows of a file into a simulator's database, in their order.

    Args:
        file: JSON, an object of lists of rows by entity set. An existing row of the same primary
            key is kept, so that a simulator can be started again.
        db: The simulator's database, which must exist.

    Raises:
        InvalidInput: The file can't be read, or a row does not fit its table. The rows before it
            stay in the database.
    """
    from writeahead.simulators.dataverse import SimulatorDatabase

    document = read_json(file)
    rows = validated(lambda: _ROWS.validate_python(document, strict=True))
    if isinstance(rows, Invalid):
        raise InvalidInput(f'{file}: not rows: write {{"accounts": [{{"name": ...}}]}}')
    database = SimulatorDatabase(db)
    for entity_set, columns in rows.items():
        for number, row in enumerate(columns, start=1):
            try:
                database.seed(entity_set, row, keep=True)
            except InvalidInput as error:
                raise InvalidInput(f"{file}: {entity_set}, row {number}: {error}") from None
