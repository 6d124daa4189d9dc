"""What every error of a store has in common."""

import copy
import errno
import pickle

import pytest

from writeahead.errors import (
    AccessDenied,
    AlreadyExists,
    InvalidKey,
    NotFound,
    OutcomeUnknown,
    StoreError,
    Unavailable,
    Unsupported,
)
from writeahead.stores.local import LocalStore
from writeahead.stores.registry import open_store

CODES = {
    StoreError: errno.EIO,
    NotFound: errno.ENOENT,
    AlreadyExists: errno.EEXIST,
    AccessDenied: errno.EACCES,
    InvalidKey: errno.EINVAL,
    Unavailable: errno.EAGAIN,
    OutcomeUnknown: errno.EIO,
    Unsupported: errno.ENOTSUP,
}


@pytest.mark.parametrize(("kind", "code"), CODES.items(), ids=lambda value: getattr(value, "__name__", None))
def test_it_is_an_oserror_with_an_errno(kind, code):
    error = kind("s3://bucket", "put", "a/b", "it  is\nbusy")
    assert isinstance(error, OSError)
    assert (error.errno, error.strerror) == (code, "it is busy")
    assert str(error) == "s3://bucket: put 'a/b': it is busy"
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(other) is kind
        assert (str(other), other.errno, other.key) == (str(error), code, "a/b")


def test_code_that_guards_its_writes_catches_it(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for url, key in ((tmp_path / "file", "a"), (tmp_path, "../a")):
        with pytest.raises(OSError) as caught:
            LocalStore(url).put(key, b"")
        assert caught.value.errno
    with pytest.raises(OSError):
        open_store("s3://bucket?anonymous=true").put("a", b"")


def test_our_own_errors_are_not_classified_again(tmp_path, monkeypatch):
    """A folder's store turns each OSError into one of ours; ours pass through as they are."""
    store = LocalStore(tmp_path)
    store.put("a", b"theirs")
    for error in (OutcomeUnknown("x", "put", "a", "ours"), Unsupported("x", "put", "a", "ours")):

        def fail(*_, error=error, **__):
            raise error

        monkeypatch.setattr(store, "_publish", fail)
        with pytest.raises(type(error)) as caught:
            store.put("a", b"mine")
        assert caught.value is error
