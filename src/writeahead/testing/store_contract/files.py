"""A store in a file system: links that lead out of it, and what a power cut could take."""

from pathlib import Path

import pytest

from writeahead.stores.base import ArtifactStore
from writeahead.testing.store_contract.backdoors import FolderBackdoor, StoreBackdoor
from writeahead.testing.store_contract.part import ContractPart, raised
from writeahead.testing.store_contract.syscalls import CALLS, durability_gaps, read_calls, why_untraceable
from writeahead.testing.store_process import StoreProcess

__all__ = ["Files"]


class Files(ContractPart):
    """Symbolic links, and the order of system calls."""

    def test_a_link_out_of_the_place_is_not_followed(
        self, backdoor: StoreBackdoor, store: ArtifactStore, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        """Nothing outside is read, listed, written or removed, whatever links there are."""
        folder = self._folder(backdoor)
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

    @pytest.mark.parametrize("key", ["b", "a/b", "new/folders/b"])
    @pytest.mark.parametrize("if_absent", [False, True], ids=["put", "create"])
    def test_a_power_cut_after_a_put_takes_nothing(
        self, backdoor: StoreBackdoor, tmp_path_factory: pytest.TempPathFactory, key: str, *, if_absent: bool
    ) -> None:
        """Traced: bytes are synced, then named, then the folder is synced, and that of each new folder."""
        self._need("processes")
        folder = self._folder(backdoor)
        if reason := why_untraceable():
            pytest.skip(f"{reason}, so the order of system calls was not seen")
        backdoor.write("a/there", b"1")
        trace = tmp_path_factory.mktemp("trace") / "trace"
        strace = ["strace", "-f", "-y", "-qq", "-e", f"trace={CALLS}", "-o", str(trace)]
        with StoreProcess(backdoor.url, tracer=strace) as process:
            assert process.call("list", "")["value"] == ["a/there"]
            assert process.call("put", key, "data", if_absent=if_absent) == {"value": None}
        assert backdoor.read(key) == b"data"
        assert durability_gaps(read_calls(_second_turn(trace)), str(folder / key)) == []

    def _folder(self, backdoor: StoreBackdoor) -> Path:
        self._need("files")
        assert isinstance(backdoor, FolderBackdoor), (
            "give the backdoor a folder, or declare 'files' impossible"
        )
        return backdoor.folder


def _second_turn(trace: Path) -> list[str]:
    """The lines between a traced process's first answer and its second: by then all has to be durable."""
    lines = trace.read_text().splitlines()
    answers = [number for number, line in enumerate(lines) if "write(1<" in line]
    return lines[answers[0] + 1 : answers[1]]
