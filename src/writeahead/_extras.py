"""Which extra brings which package, and the one message for a package that is not installed."""

import contextlib
from collections.abc import Iterator

from writeahead.errors import InvalidInput

__all__ = ["requires_extra"]

# By the name that is imported. Packages that an extra brings indirectly count as well.
_EXTRA_OF = {
    "click": "cli",
    "rich": "cli",
    "typer": "cli",
    "filelock": "http",
    "httpcore": "http",
    "httpx": "http",
    "pyrate_limiter": "dataverse",
    "aiobotocore": "s3",
    "aiohttp": "s3",
    "botocore": "s3",
    "fsspec": "s3",
    "s3fs": "s3",
    "obstore": "obstore",
    "opentelemetry": "otel",
    "dask": "dask",
    "distributed": "dask",
    "starlette": "simulator",
    "uvicorn": "simulator",
    "jinja2": "report",
    "markupsafe": "report",
    "moto": "demo",
}


@contextlib.contextmanager
def requires_extra(what: str, extra: str | None = None) -> Iterator[None]:
    """Import what an extra brings; if it is not installed, say how to install it.

    Args:
        what: What needs it, as the message names it.
        extra: The extra that brings all of it; by default the one that brings the missing package.

    Raises:
        InvalidInput: A package of one of our extras is missing.
        ModuleNotFoundError: Any other module is missing, which no extra would bring.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _EXTRA_OF:
            raise
        raise InvalidInput(
            f"{what}: {missing} is not installed; "
            f'run: python -m pip install "writeahead[{extra or _EXTRA_OF[missing]}]"'
        ) from error
