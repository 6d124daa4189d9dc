"""The verbs, one by one: a put is there, a create is settled, an error says what it is about."""

import pickle

import pytest

from writeahead.errors import AlreadyExists, InvalidKey, NotFound
from writeahead.stores.base import ArtifactStore
from writeahead.testing.store_contract.backdoors import StoreBackdoor
from writeahead.testing.store_contract.part import ContractPart, raised

__all__ = ["Verbs"]

_ALL_BYTES = bytes(range(256))


class Verbs(ContractPart):
    """Bytes, infos, absence, creates, errors, and the store's own check."""

    # The verbs.

    @pytest.mark.parametrize("data", [b"", b"x", _ALL_BYTES, _ALL_BYTES * 4097], ids=len)
    @pytest.mark.parametrize("if_absent", [False, True], ids=["put", "create"])
    def test_bytes_are_kept_exactly(
        self, backdoor: StoreBackdoor, store: ArtifactStore, data: bytes, *, if_absent: bool
    ) -> None:
        """What was put is what is there, and what is read."""
        store.put("a/b", data, if_absent=if_absent)
        assert backdoor.read("a/b") == data
        assert store.get("a/b").data == data

    def test_a_put_replaces(self, backdoor: StoreBackdoor, store: ArtifactStore) -> None:
        """The new bytes are there, also where they are fewer."""
        store.put("a", b"long" * 1000)
        store.put("a", b"short")
        assert backdoor.read("a") == b"short"
        assert backdoor.keys() == ["a"]

    def test_what_others_wrote_is_read(self, backdoor: StoreBackdoor, store: ArtifactStore) -> None:
        """A store holds nothing that is not in its backdoor."""
        assert store.head("a/b") is None
        assert list(store.list()) == []
        backdoor.write("a/b", b"theirs")
        assert store.get("a/b").data == b"theirs"
        head = store.head("a/b")
        assert head is not None
        assert head.size == len(b"theirs")
        assert [info.key for info in store.list()] == ["a/b"]

    def test_verbs_agree_on_info(self, store: ArtifactStore) -> None:
        """put, get, head and list tell the same of an object, where they tell anything."""
        put = store.put("a/b", b"12345")
        listed = list(store.list())
        for info in (put, store.get("a/b").info, store.head("a/b"), *listed):
            assert info is not None
            assert (info.key, info.size) == ("a/b", 5)
            assert info.last_modified is None or info.last_modified.tzinfo is not None
            assert info.etag == put.etag
        assert len(listed) == 1

    def test_absent_is_not_found(self, store: ArtifactStore) -> None:
        """An absent object is NotFound for get, None for head, and nothing for list."""
        store.put("a/b", b"")
        for key in ("b", "a", "a/b/c", "a/bb"):
            with pytest.raises(NotFound):
                store.get(key)
            assert store.head(key) is None

    def test_an_empty_place(self, backdoor: StoreBackdoor, store: ArtifactStore) -> None:
        """Nothing is there before the first put, and looking makes nothing."""
        assert list(store.list()) == []
        assert list(store.list("a/")) == []
        assert store.head("a") is None
        store.delete("a/b")
        store.exists()
        assert backdoor.keys() == []

    def test_a_place_with_an_object_exists(self, store: ArtifactStore) -> None:
        """A store that holds something is there."""
        store.put("a/b", b"1")
        assert store.exists()

    def test_delete(self, backdoor: StoreBackdoor, store: ArtifactStore) -> None:
        """A deleted object is gone, its neighbours are not, and deleting it again is no error."""
        store.put("a/b", b"1")
        store.put("a/c", b"1")
        for _ in range(2):
            store.delete("a/b")
            assert backdoor.read("a/b") is None
            assert store.head("a/b") is None
        assert backdoor.keys() == ["a/c"]

    # Create-if-absent.

    def test_a_create_is_settled(self, backdoor: StoreBackdoor, store: ArtifactStore) -> None:
        """The same bytes are accepted again, also if another client wrote them."""
        first = store.put("a/b", b"1", if_absent=True)
        again = store.put("a/b", b"1", if_absent=True)
        assert (first.key, first.size, first.etag) == (again.key, again.size, again.etag)
        backdoor.write("theirs", b"2")
        assert store.put("theirs", b"2", if_absent=True).size == 1
        assert backdoor.keys() == ["a/b", "theirs"]

    @pytest.mark.parametrize("held", [b"", b"1", b"12", b"2"], ids=repr)
    def test_a_create_is_refused(self, backdoor: StoreBackdoor, store: ArtifactStore, held: bytes) -> None:
        """Other bytes are refused, and those that are there stay."""
        backdoor.write("a/b", held)
        with pytest.raises(AlreadyExists):
            store.put("a/b", b"new", if_absent=True)
        assert backdoor.read("a/b") == held
        assert backdoor.keys() == ["a/b"]

    def test_a_create_after_a_delete(self, backdoor: StoreBackdoor, store: ArtifactStore) -> None:
        """A key that was deleted is free."""
        store.put("a", b"1", if_absent=True)
        store.delete("a")
        store.put("a", b"2", if_absent=True)
        assert backdoor.read("a") == b"2"

    # Errors.

    def test_errors_say_which_store_verb_and_key(self, store: ArtifactStore) -> None:
        """Each is one line, is its built-in counterpart too, and survives pickling."""
        store.put("a/b", b"1")
        for call, verb, key, ours, counterpart in (
            (lambda: store.get("a/c"), "get", "a/c", NotFound, FileNotFoundError),
            (lambda: store.put("a/b", b"2", if_absent=True), "put", "a/b", AlreadyExists, FileExistsError),
            (lambda: store.head("../b"), "head", "../b", InvalidKey, ValueError),
            (lambda: list(store.list("../")), "list", "../", InvalidKey, ValueError),
            (lambda: store.delete(""), "delete", "", InvalidKey, ValueError),
        ):
            error = raised(call)
            assert isinstance(error, ours)
            assert isinstance(error, counterpart)
            assert (error.store, error.operation, error.key) == (store.name, verb, key)
            assert error.detail
            assert len(str(error).splitlines()) == 1
            assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301 - it is our own

    def test_check_proves_the_store_and_leaves_nothing(
        self, backdoor: StoreBackdoor, store: ArtifactStore
    ) -> None:
        """`check` finds every promise kept, and removes what it made."""
        backdoor.write("a/b", b"1")
        outcome = store.check()
        assert [result for result in outcome.results if not result.ok] == []
        assert outcome.ok
        assert outcome.store == store.name
        assert backdoor.keys() == ["a/b"]
