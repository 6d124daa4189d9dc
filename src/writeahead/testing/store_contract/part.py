"""What the parts of the store contract share."""

from collections.abc import Callable
from typing import Any

import pytest

from writeahead.errors import StoreError
from writeahead.stores.base import ArtifactStore
from writeahead.testing.part import Part, require_members
from writeahead.testing.store_contract.backdoors import StoreBackdoor
from writeahead.testing.summary import PROPERTY

__all__ = ["ContractPart", "raised"]


class ContractPart(Part):
    """Some of the tests of `StoreContract`."""

    @pytest.fixture(autouse=True)
    def _named_in_the_summary(self, record_property: Callable[[str, object], None]) -> None:
        record_property(PROPERTY, type(self).__name__)

    @pytest.fixture(autouse=True)
    def _with_a_whole_backdoor(self, backdoor: StoreBackdoor) -> None:
        require_members(backdoor, *members(StoreBackdoor))

    @pytest.fixture
    def store(self, backdoor: StoreBackdoor) -> ArtifactStore:
        """The store under test."""
        return backdoor.open()

    def _backdoor(self, backdoor: StoreBackdoor, part: str, protocol: type[Any]) -> Any:
        """The backdoor, with what a part needs of it; skips the test if the part is impossible."""
        self._need(part)
        require_members(backdoor, *members(protocol), part=part)
        return backdoor


def members(protocol: type) -> list[str]:
    """The names of the methods and properties that a protocol asks for."""
    return [name for name in vars(protocol) if not name.startswith("_")]


def raised(call: Callable[[], object]) -> StoreError:
    """The store's error that a call ends with; anything else fails the test."""
    with pytest.raises(StoreError) as caught:
        call()
    return caught.value
