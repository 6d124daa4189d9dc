"""Wrappers of stores that several tests share."""

from collections.abc import Iterator

from writeahead.stores.base import ObjectInfo
from writeahead.testing import WrapperStore

__all__ = ["WholeListStore"]


class WholeListStore(WrapperStore):
    """A store whose listing is one call like the others, complete when it returns."""

    def _list(self, prefix: str, start_after: str | None) -> Iterator[ObjectInfo]:
        return iter(
            self._around("list", prefix, lambda: list(self.wrapped.list(prefix, start_after=start_after)))
        )
