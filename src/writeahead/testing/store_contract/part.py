"""What the parts of the store contract share."""

from collections.abc import Callable, Mapping
from typing import ClassVar

import pytest

from writeahead.errors import StoreError
from writeahead.stores.base import ArtifactStore
from writeahead.testing.store_contract.backdoors import StoreBackdoor
from writeahead.testing.summary import PROPERTY

__all__ = ["ContractPart", "raised"]


class ContractPart:
    """Some of the tests of `StoreContract`."""

    impossible: ClassVar[Mapping[str, str]] = {}

    @pytest.fixture(autouse=True)
    def _named_in_the_summary(self, record_property: Callable[[str, object], None]) -> None:
        record_property(PROPERTY, type(self).__name__)

    @pytest.fixture
    def store(self, backdoor: StoreBackdoor) -> ArtifactStore:
        """The store under test."""
        return backdoor.open()

    def _need(self, part: str) -> None:
        """Skip a test of a part that was declared impossible, and say why."""
        if part in self.impossible:
            pytest.skip(f"{part} declared impossible: {self.impossible[part]}")


def raised(call: Callable[[], object]) -> StoreError:
    """The store's error that a call ends with; anything else fails the test."""
    with pytest.raises(StoreError) as caught:
        call()
    return caught.value
