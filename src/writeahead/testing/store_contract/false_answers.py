"""A store behind HTTP whose server answers success to anything: it is not believed."""

from collections.abc import Callable, Iterator

import pytest

from writeahead.errors import NotFound, OutcomeUnknown, StoreError, Unavailable, Unsupported
from writeahead.stores.base import ArtifactStore
from writeahead.testing.http_proxy import HttpProxy, SeenRequest, answer
from writeahead.testing.store_contract.backdoors import ServedBackdoor, StoreBackdoor
from writeahead.testing.store_contract.part import ContractPart

__all__ = ["FalseAnswers"]

_PAGE = b"<html><body>Log in</body></html>"
_FOR_EVER = 1_000
_WRITES: dict[str, Callable[[ArtifactStore], object]] = {
    "put": lambda store: store.put("a", b"1"),
    "create": lambda store: store.put("a", b"1", if_absent=True),
    "delete": lambda store: store.delete("a"),
}
_READS: dict[str, Callable[[ArtifactStore], object]] = {
    "get": lambda store: store.get("a"),
    "head": lambda store: store.head("a"),
    "list": lambda store: list(store.list()),
}


class FalseAnswers(ContractPart):
    """Login pages, consoles and redirects: what they answer proves nothing."""

    @pytest.fixture
    def behind(self, backdoor: StoreBackdoor) -> Iterator[tuple[ArtifactStore, HttpProxy]]:
        """The store under test, behind a proxy that can answer in the server's backdoor."""
        self._need("wire")
        self._need("proof")
        assert isinstance(backdoor, ServedBackdoor), "give the backdoor server and open_at"
        with HttpProxy(backdoor.server) as proxy:
            yield backdoor.open_at(proxy.url), proxy

    @pytest.mark.parametrize("body", [_PAGE, b""], ids=["page", "empty"])
    @pytest.mark.parametrize("verb", [*_WRITES, *_READS])
    def test_a_200_without_proof_is_not_believed(
        self, behind: tuple[ArtifactStore, HttpProxy], verb: str, body: bytes
    ) -> None:
        """A write may have happened; a read says nothing, not even that there is nothing."""
        store, proxy = behind
        proxy.fault(_any, answer(200, {"Content-Type": "text/html"}, body), times=_FOR_EVER)
        if verb in _WRITES:
            with pytest.raises((OutcomeUnknown, Unsupported)):
                _WRITES[verb](store)
        else:
            with pytest.raises((Unavailable, Unsupported)):
                _READS[verb](store)

    @pytest.mark.parametrize("verb", [*_WRITES, *_READS])
    def test_a_redirect_is_not_followed(self, behind: tuple[ArtifactStore, HttpProxy], verb: str) -> None:
        """No request goes to another host, neither with credentials nor with a payload."""
        store, proxy = behind
        with HttpProxy("http://127.0.0.1:1") as elsewhere:
            url = elsewhere.url.replace("127.0.0.1", "localhost")
            for status in (301, 302, 303, 307, 308):
                proxy.fault(_any, answer(status, {"Location": url}), times=_FOR_EVER)
                with pytest.raises((NotFound, Unsupported, Unavailable, OutcomeUnknown)) as caught:
                    (_WRITES | _READS)[verb](store)
                assert isinstance(caught.value, StoreError)
                proxy.clear()
            assert elsewhere.requests == []


def _any(_: SeenRequest) -> bool:
    return True
