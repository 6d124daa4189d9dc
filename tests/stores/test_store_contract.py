"""Every store keeps the contract. The backdoors read the bytes by other code than the stores'."""

import secrets
from collections.abc import Mapping
from typing import ClassVar

import pytest

from tests.support.folders import Folder
from tests.support.s3_server import RawBucket
from writeahead.stores.base import ArtifactStore, ObjectInfo, StoredObject
from writeahead.stores.memory import MemoryStore
from writeahead.stores.registry import open_store
from writeahead.testing import StoreContract

pytestmark = pytest.mark.usefixtures("short_waits")


class Dict:
    """A named memory store, seen through its dict."""

    def __init__(self) -> None:
        self.name = secrets.token_hex(6)
        self.url = f"memory://{self.name}"

    @property
    def objects(self) -> dict[str, StoredObject]:
        return MemoryStore.named(self.name)._objects

    def open(self) -> ArtifactStore:
        return MemoryStore.named(self.name)

    def read(self, key: str) -> bytes | None:
        return self.objects[key].data if key in self.objects else None

    def write(self, key: str, data: bytes) -> None:
        self.objects[key] = StoredObject(data, ObjectInfo(key, len(data)))

    def fill(self, prefix: str, count: int) -> None:
        for number in range(count):
            self.write(f"{prefix}{number:06d}", b"filled")

    def keys(self) -> list[str]:
        return sorted(self.objects)


class Bucket(RawBucket):
    """A bucket, or a part of it, seen through plain HTTP."""

    @property
    def url(self) -> str:
        return f"s3://{self.name}/{self.prefix}?endpoint_url={self.server}"

    def open(self) -> ArtifactStore:
        return open_store(self.url)

    def open_at(self, server: str) -> ArtifactStore:
        return open_store(f"s3://{self.name}/{self.prefix}?endpoint_url={server}")


class TestLocalStore(StoreContract):
    impossible: ClassVar[Mapping[str, str]] = {"wire": "no HTTP is spoken"}

    @pytest.fixture
    def backdoor(self, tmp_path):
        return Folder(tmp_path / "not" / "there yet")


class TestMemoryStore(StoreContract):
    impossible: ClassVar[Mapping[str, str]] = {
        "processes": "a memory store is its process's own",
        "wire": "no HTTP is spoken",
        "links": "there is no file system",
        "durability": "a memory store ends with its process",
        "fork": "a fork copies a memory store; from then on there are two",
    }

    @pytest.fixture
    def backdoor(self):
        backdoor = Dict()
        yield backdoor
        MemoryStore._by_name.pop(backdoor.name, None)


class TestS3Store(StoreContract):
    impossible: ClassVar[Mapping[str, str]] = {
        "links": "there is no file system",
        "durability": "its server keeps the files",
    }

    @pytest.fixture
    def backdoor(self, s3_bucket):
        # Neither of these is below the prefix, though both begin like it.
        s3_bucket.write("team=a/service", b"not ours")
        s3_bucket.write("team=a/service-2/a", b"not ours")
        return Bucket(s3_bucket.server, s3_bucket.name, "team=a/service/")
