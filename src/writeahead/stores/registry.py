"""From a URL to a store. Backends are loaded when their scheme is asked for, and not before."""

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TypeAlias, cast

from writeahead._extras import requires_extra
from writeahead.errors import InvalidInput
from writeahead.stores.base import ArtifactStore
from writeahead.stores.urls import client_of, scheme_of

__all__ = ["open_store"]

GROUP = "writeahead.stores"
Factory: TypeAlias = Callable[[str], ArtifactStore]

# By name rather than by import: `import writeahead` must load neither a backend nor its client
# library.
_BUILT_IN = {
    "az": "writeahead.stores.obstore_clients:azure_from_url",
    "file": "writeahead.stores.local:from_url",
    "gs": "writeahead.stores.obstore_clients:gcs_from_url",
    "memory": "writeahead.stores.memory:from_url",
    "s3": "writeahead.stores.s3:from_url",
}
# For schemes that more than one client library serves, by the URL's option ``client``.
_CLIENTS = {"s3": {"s3fs": _BUILT_IN["s3"], "obstore": "writeahead.stores.obstore_clients:s3_from_url"}}
_ANY_FSSPEC = "writeahead.stores.any_fsspec:from_url"


def open_store(url: str) -> ArtifactStore:
    """Open the store that a URL names. Nothing is read, written or connected to yet.

    Args:
        url: One of

            - ``./path``, ``/path``, ``~/path`` or ``file:///path``: a folder; the first put makes
              it.
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
        InvalidInput: The scheme or an option is unknown, the URL holds credentials, or the backend
            needs a package that is not installed; the message says what to do.
    """
    if not url or not url.isprintable():
        raise InvalidInput("store: give a folder or a URL, e.g. ./artifacts or s3://bucket/prefix")
    scheme = scheme_of(url)
    if scheme is None:
        # file:// is the one form that its backend has to understand.
        return _factory("file")(Path(url).expanduser().absolute().as_uri())
    return _factory(scheme, client_of(url))(url)


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
    found = entry_points(group=GROUP, name=scheme)
    if not found:
        known = sorted({*_BUILT_IN, *entry_points(group=GROUP).names})
        raise InvalidInput(
            f"store {scheme}://...: unknown scheme; known: {', '.join(known)}, or a folder's path"
        )
    if len({point.value for point in found}) > 1:
        raise InvalidInput(
            f"store {scheme}://...: more than one installed package offers it; uninstall all but one"
        )
    return _load_plugin(scheme, next(iter(found)))


def _load_built_in(scheme: str, target: str) -> Factory:
    module, _, name = target.partition(":")
    # fsspec comes with s3fs as well, but a scheme of fsspec's own does not need that.
    extra = "fsspec" if target == _ANY_FSSPEC else None
    with requires_extra(f"store {scheme}://...", extra):
        return cast(Factory, getattr(import_module(module), name))


def _load_plugin(scheme: str, point: EntryPoint) -> Factory:
    try:
        return cast(Factory, point.load())
    except (ImportError, AttributeError) as error:
        raise InvalidInput(
            f"store {scheme}://...: its plug-in {point.value} can't be loaded "
            f"({type(error).__name__}); reinstall the package that offers it"
        ) from error
