"""What the entries of a journal say together, put together without the code under test."""

from collections.abc import Mapping
from typing import Any


def whole(entries: Mapping[int, Mapping[str, Any]], number: int) -> dict[str, Mapping[str, Any]]:
    """The receipts and the attempts that an entry stands for, from the entries by their numbers."""
    newest = entries[number]
    base = newest.get("base")
    state = whole(entries, base) if base else {"receipts": {}, "attempted": {}}
    gone = {*newest["receipts"], *newest.get("removed", {}).get("attempted", ())}
    attempted = {**state["attempted"], **newest["attempted"]}
    return {
        "receipts": {**state["receipts"], **newest["receipts"]},
        "attempted": {name: when for name, when in attempted.items() if name not in gone},
    }
