"""A store on this machine's disk: what a power cut could take after a put returned."""

from pathlib import Path

import pytest

from writeahead.testing.store_contract.backdoors import FilesBackdoor, FolderBackdoor, StoreBackdoor
from writeahead.testing.store_contract.part import ContractPart
from writeahead.testing.store_contract.syscalls import (
    CALLS,
    object_gaps,
    read_calls,
    unsynced,
    why_untraceable,
)
from writeahead.testing.store_process import StoreProcess

__all__ = ["Durability"]


class Durability(ContractPart):
    """The order of system calls, seen by strace."""

    @pytest.mark.parametrize("key", ["b", "a/b", "new/folders/b"])
    @pytest.mark.parametrize("if_absent", [False, True], ids=["put", "create"])
    def test_a_power_cut_after_a_put_takes_nothing(
        self, backdoor: StoreBackdoor, tmp_path_factory: pytest.TempPathFactory, key: str, *, if_absent: bool
    ) -> None:
        """When a put returns, all bytes and names that hold its object are synced."""
        files = self._files_of(backdoor, key)
        self._need("processes")
        if reason := why_untraceable():
            pytest.skip(f"{reason}, so the order of system calls was not seen")
        backdoor.write("a/there", b"1")
        trace = tmp_path_factory.mktemp("trace") / "trace"
        strace = ["strace", "-f", "-y", "-qq", "-e", f"trace={CALLS}", "-o", str(trace)]
        with StoreProcess(backdoor.url, tracer=strace) as process:
            assert process.call("list", "")["value"] == ["a/there"]
            there = [str(file) for file in files if file.exists()]
            assert process.call("put", key, "data", if_absent=if_absent) == {"value": None}
        assert backdoor.read(key) == b"data"
        calls = read_calls(_second_turn(trace))
        if isinstance(backdoor, FolderBackdoor):
            assert object_gaps(calls, str(files[0])) == []
        else:
            assert unsynced(calls, map(str, files), there) == []

    def _files_of(self, backdoor: StoreBackdoor, key: str) -> list[Path]:
        """The files that hold an object; the test is skipped if there are none."""
        self._need("durability")
        if isinstance(backdoor, FolderBackdoor):
            return [backdoor.folder / key]
        in_files: FilesBackdoor = self._backdoor(backdoor, "durability", FilesBackdoor)
        return list(in_files.files)


def _second_turn(trace: Path) -> list[str]:
    """The lines between a process's first and second answer, when all has to be durable."""
    lines = trace.read_text().splitlines()
    answers = [number for number, line in enumerate(lines) if "write(1<" in line]
    return lines[answers[0] + 1 : answers[1]]
