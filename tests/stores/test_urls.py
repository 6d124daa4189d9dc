"""Store URLs: how they are taken apart, and what of them is refused, in whose words."""

import pytest

from writeahead.errors import InvalidInput
from writeahead.stores import registry
from writeahead.stores.local import LocalStore
from writeahead.stores.memory import MemoryStore
from writeahead.stores.registry import open_store
from writeahead.stores.urls import StoreUrl, client_of, parse_store_url, scheme_of


def test_the_parts_of_a_url():
    found = parse_store_url("S3://My%20Bucket/a%2Fb/c?one=1%3D2&two=b%20c", options=("one", "two", "three"))
    assert found == StoreUrl("s3", "My Bucket", "/a/b/c", {"one": "1=2", "two": "b c"})
    assert parse_store_url("memory://x") == StoreUrl("memory", "x", "", {})
    # A plain path has no scheme; what is one is the backend's affair.
    assert parse_store_url("a/b") == StoreUrl("", "", "a/b", {})


@pytest.mark.parametrize(
    ("url", "scheme"),
    [
        ("s3://b", "s3"),
        ("S3://b", "s3"),
        ("fsspec+gs://b", "fsspec+gs"),
        ("./a", None),
        ("a:b", None),
        ("ab:c", ValueError),
    ],
)
def test_the_scheme_of_a_url(url, scheme):
    if scheme is ValueError:
        with pytest.raises(
            ValueError, match=r"^store 'ab:'\.\.\.: write ab:// for a URL, or \./ab: for a folder"
        ):
            scheme_of(url)
    else:
        assert scheme_of(url) == scheme


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("xy://[", "store xy://...: this is no URL that can be read"),
        (
            "xy://key:secret@b",
            "store xy://...: credentials don't belong in a URL; use the environment or a profile",
        ),
        ("xy://b#y", "store xy://...: '#' has no meaning here; write %23 if it is part of a name"),
        ("xy://b?c=1", "store xy://...: unknown option 'c'; known options: a, b"),
        ("xy://b?b=1&b=2", "store xy://...: option 'b' is given twice"),
        ("xy://b?b=&a=1", "store xy://...: option 'b' has no value"),
        ("xy://b?a=1&b", "store xy://...: option 'b' has no value"),
    ],
)
def test_what_is_refused_of_a_url(url, said):
    with pytest.raises(InvalidInput) as caught:
        parse_store_url(url, options=("b", "a"))
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "store: give a folder or a URL, e.g. ./artifacts or s3://bucket/prefix"),
        ("a\nb", "store: give a folder or a URL, e.g. ./artifacts or s3://bucket/prefix"),
        ("memory://x?a=1", "store memory://...: unknown option 'a'; known options: none"),
        ("memory://x?client=s3fs", "store memory://...: unknown option 'client'; known options: none"),
        ("s3://bucket?client=nobody", "store s3://...: unknown client; known: obstore, s3fs"),
    ],
)
def test_what_no_store_can_be_opened_from(url, said):
    with pytest.raises(InvalidInput) as caught:
        open_store(url)
    assert str(caught.value) == said


@pytest.mark.parametrize("client", ["s3fs", "obstore"])
@pytest.mark.parametrize("end", ["", "/"])
def test_a_prefix_is_the_path_without_its_outer_slashes(client, end):
    store = open_store(f"s3://bucket/X/pX{end}?client={client}")
    assert store.name == "s3://bucket/X/pX"


def test_a_plain_path_is_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for given, place in (
        ("./a b", tmp_path / "a b"),
        (str(tmp_path / "c"), tmp_path / "c"),
        ("~/d", tmp_path / "home" / "d"),
        ((tmp_path / "e").as_uri(), tmp_path / "e"),
    ):
        store = open_store(given)
        assert isinstance(store, LocalStore)
        store.put("k", b"1")
        assert (place / "k").read_bytes() == b"1"


@pytest.mark.parametrize(
    ("url", "client"),
    [
        ("s3://b?client=one", "one"),
        ("s3://b/p?region=x&client=one&profile=y#z", "one"),
        ("s3://b?client=o%20e", "o e"),
        ("s3://b", None),
        ("s3://b?client", None),
        ("s3://b#c?client=one", None),
        ("s3://b?x=1?client=one", None),
    ],
)
def test_the_client_that_a_url_names(url, client):
    assert client_of(url) == client


def test_a_client_is_chosen_by_its_name(monkeypatch):
    """With clients of our own making, for the real ones take a process of their own."""
    clients = {"first": "writeahead.stores.memory:from_url", "second": "writeahead.stores.local:from_url"}
    monkeypatch.setitem(registry._CLIENTS, "memory", clients)
    assert isinstance(registry._factory("memory", "first")("memory://x"), MemoryStore)
    assert isinstance(registry._factory("memory", "second")("file:///x"), LocalStore)
    assert isinstance(registry._factory("memory")("memory://x"), MemoryStore)
    # For a scheme that has one client the option is the backend's affair.
    assert isinstance(registry._factory("file", "second")("file:///x"), LocalStore)
    with pytest.raises(InvalidInput) as caught:
        open_store("memory://x?client=third")
    assert str(caught.value) == "store memory://...: unknown client; known: first, second"


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("s3://bucket", "S3Store"),
        ("s3://bucket?client=s3fs", "S3Store"),
        ("s3://bucket?client=obstore", "ObstoreStore"),
        ("fsspec+memory://bucket", None),
    ],
)
def test_by_which_library_a_bucket_is_reached(url, kind):
    if kind is None:
        with pytest.raises(Exception, match="fsspec\\+memory://"):
            open_store(url)
    else:
        assert type(open_store(url)).__name__ == kind
