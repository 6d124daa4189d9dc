"""tenacity's loop from the first failure on: nearly all calls need one attempt, and no loop."""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    # It loads asyncio, which costs more than the rest of the core together.
    from tenacity import Retrying

__all__ = ["retried"]

_T = TypeVar("_T")


def retried(call: Callable[[], _T], loop: Callable[[], "Retrying"], failure: type[Exception]) -> _T:
    """Call a function; if that fails, go on as a loop of tenacity says.

    Args:
        call: The function.
        loop: Makes the loop. What has failed is its first attempt.
        failure: What a loop may deal with; anything else is raised at once.

    Returns:
        What the function returned at last.

    Raises:
        Exception: What the function or the loop raises.
    """
    try:
        return call()
    except failure as error:
        failed = [error]

    def attempt() -> _T:
        if failed:
            raise failed.pop()
        return call()

    return loop()(attempt)
