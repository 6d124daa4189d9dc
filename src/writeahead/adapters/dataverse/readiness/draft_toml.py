"""Values as a draft of a mapping writes them, in TOML."""

import json
from collections.abc import Iterable, Mapping

__all__ = ["toml_inline", "toml_list", "toml_text"]


def toml_inline(values: Mapping[str, int | bool]) -> str:
    """An inline table of numbers or booleans."""
    return f"{{ {', '.join(f'{label} = {json.dumps(value)}' for label, value in values.items())} }}"


def toml_list(names: Iterable[str]) -> str:
    """An array of texts."""
    return f"[{', '.join(map(toml_text, names))}]"


def toml_text(value: str) -> str:
    """A basic string."""
    # TOML's basic strings take what JSON's take.
    return json.dumps(value, ensure_ascii=False)
