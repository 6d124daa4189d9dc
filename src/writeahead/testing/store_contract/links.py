"""A store that keeps each object in a file: symbolic links that lead out of its folder."""

import pytest

from writeahead.stores.base import ArtifactStore
from writeahead.testing.store_contract.backdoors import FolderBackdoor, StoreBackdoor
from writeahead.testing.store_contract.part import ContractPart, raised

__all__ = ["Links"]


class Links(ContractPart):
    """Nothing outside the folder is reached."""

    def test_a_link_out_of_the_place_is_not_followed(
        self, backdoor: StoreBackdoor, store: ArtifactStore, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        """Nothing outside is read, listed, written or removed, whatever links there are."""
        on_disk: FolderBackdoor = self._backdoor(backdoor, "links", FolderBackdoor)
        folder = on_disk.folder
        outside = tmp_path_factory.mktemp("outside")
        (outside / "b").write_bytes(b"secret")
        backdoor.write("a/b", b"1")
        (folder / "folder").symlink_to(outside)
        (folder / "file").symlink_to(outside / "b")
        (folder / "dangling").symlink_to(outside / "c")
        for key in ("folder/b", "file", "dangling"):
            for call in (
                lambda key=key: store.get(key),
                lambda key=key: store.head(key),
                lambda key=key: store.put(key, b"x", if_absent=True),
                lambda key=key: store.delete(key),
            ):
                assert raised(call).detail
        assert raised(lambda: store.put("folder/b", b"x")).detail
        assert raised(lambda: list(store.list("folder/"))).detail
        assert [info.key for info in store.list()] == ["a/b"]
        assert {path.name: path.read_bytes() for path in outside.iterdir()} == {"b": b"secret"}
