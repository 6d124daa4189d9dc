"""From a URL to a store. Backends are loaded when their scheme is asked for, and not before."""

import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TypeAlias, cast

from writeahead import _plugins
from writeahead._extras import requires_extra
from writeahead.errors import InvalidInput
from writeahead.stores.base import ArtifactStore
from writeahead.stores.urls import absolute, client_of, scheme_of

__all__ = ["open_store", "shared_url"]

GROUP = "writeahead.stores"
Factory: TypeAlias = Callable[[str], ArtifactStore]

# By name rather than by import: `import writeahead` must load neither a backend nor its client
# library.
_BUILT_IN = {
    "az": "writeahead.stores.gcs_azure:azure_from_url",
    "file": "writeahead.stores.local:from_url",
    "gs": "writeahead.stores.gcs_azure:gcs_from_url",
    "memory": "writeahead.stores.memory:from_url",
    "s3": "writeahead.stores.s3:from_url",
}
# For schemes that more than one client library serves, by the URL's option ``client``.
_CLIENTS = {"s3": {"s3fs": _BUILT_IN["s3"], "obstore": "writeahead.stores.obstore_s3:from_url"}}
_ANY_FSSPEC = "writeahead.stores.any_fsspec:from_url"


def open_store(url: str | os.PathLike[str]) -> ArtifactStore:
    """Open the store that a URL names. Nothing is read, written or connected to yet.

    Args:
        url: One of

            - ``./path``, ``/path``, ``~/path``, ``C:/path`` or ``file:///path``: a folder; the
              first put makes it. A `pathlib.Path` is always a folder, taken as it is.
            - ``memory://name``: one store per name and process.
            - ``s3://bucket/prefix?endpoint_url=...&region=...&profile=...``: a bucket, or a part of
              it; all options are those of `writeahead.stores.s3_options.S3Options`. With
              ``client=obstore`` through that client, by default through s3fs.
            - ``fsspec+<scheme>://...``: any other filesystem of fsspec, where a check proves it.
            - ``gs://bucket/prefix``, ``az://container/prefix?account=...``: through obstore.
            - a scheme that an installed package offers as an entry point of the group
              ``writeahead.stores``: its name is the scheme, its object a callable from URL to
              store.

    Raises:
        InvalidInput: The scheme or an option is unknown, the URL holds credentials, a folder can't
            be found from here, or the backend needs a package that is not installed; the message
            says what to do.
    """
    if isinstance(url, os.PathLike):
        return _folder(Path(url))
    if not url or not url.isprintable():
        raise InvalidInput("store: give a folder or a URL, e.g. ./artifacts or s3://bucket/prefix")
    scheme = scheme_of(url)
    if scheme is None:
        try:
            return _folder(Path(url).expanduser())
        except RuntimeError as error:
            raise InvalidInput("store ~...: there is no such user, or none whose home is known") from error
    return _factory(scheme, client_of(url))(url)


def shared_url(url: str) -> str:
    """Return the URL under which another process opens the same store.

    A folder's path is made absolute. Whether another machine has that folder can't be seen from
    here.

    Raises:
        InvalidInput: As `open_store`; or the store is in the memory of this process.
    """
    opened, scheme = open_store(url), scheme_of(url)
    if scheme is None:
        return opened.name
    if scheme == "memory":
        raise InvalidInput("store memory://...: no other process can reach it: give a folder or a bucket")
    return url


def _folder(path: Path) -> ArtifactStore:
    # file:// is the one form that its backend has to understand.
    return _factory("file")(absolute(path).as_uri())


def _factory(scheme: str, client: str | None = None) -> Factory:
    if scheme.startswith("fsspec+"):
        return _load_built_in(scheme, _ANY_FSSPEC)
    target = _BUILT_IN.get(scheme)
    if target is not None:
        if client is not None and scheme in _CLIENTS:
            target = _CLIENTS[scheme].get(client)
        if target is None:
            clients = ", ".join(sorted(_CLIENTS[scheme]))
            raise InvalidInput(f"store {scheme}://...: unknown client; known: {clients}")
        return _load_built_in(scheme, target)
    subject = f"store {scheme}://..."
    target = _plugins.find(GROUP, scheme, subject)
    if target is None:
        known = sorted({*_BUILT_IN, *_plugins.offered(GROUP)})
        raise InvalidInput(f"{subject}: unknown scheme; known: {', '.join(known)}, or a folder's path")
    return cast(Factory, _plugins.load(target, subject, "my_store:from_url"))


def _load_built_in(scheme: str, target: str) -> Factory:
    module, _, name = target.partition(":")
    # fsspec comes with s3fs as well, but a scheme of fsspec's own does not need that.
    extra = "fsspec" if target == _ANY_FSSPEC else None
    with requires_extra(f"store {scheme}://...", extra):
        return cast(Factory, getattr(import_module(module), name))
