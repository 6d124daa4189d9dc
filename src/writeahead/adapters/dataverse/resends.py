"""How often a write that a 412 refused is sent again within one attempt.

A 412 stands for a condition on the row that does not hold, and for a value that another row has and
that must be unique ("Compose HTTP requests and handle errors", learn.microsoft.com:
ConcurrencyVersionMismatch and DuplicateRecord; the code is often empty). A unique index that is no
alternate key is answered by the code of a GUID that is taken, 0x80040237 (reported of real
environments: github.com/microsoft/coe-starter-kit, issue 4215). Only the row itself tells them
apart. What was in the way may be gone by the time that it is read, so one refusal proves nothing;
but a second one at once, with nothing in the way again, is not about the row.
"""

from http import HTTPStatus

from writeahead.adapters.dataverse.webapi.codes import VERSION_MISMATCH
from writeahead.adapters.dataverse.webapi.errors import (
    PermanentDataverseError,
    TransientDataverseError,
    value_taken,
)
from writeahead.errors import Applied, ConflictError

__all__ = ["Resends", "may_hide_a_row"]


class Resends:
    """What one write was sent again for. Each attempt starts with an empty one, so nothing is kept.

    Args:
        what: What is written, as messages name it.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._unexplained = False
        self._rebased = False

    def for_new_version(self) -> None:
        """Count one for another version of the row.

        Raises:
            ConflictError: It is the second one.
        """
        if self._rebased:
            raise ConflictError(f"{self._what}: another user keeps changing it")
        self._rebased = True

    def for_nothing_in_the_way(self, refused: PermanentDataverseError) -> None:
        """Count one after a refusal that nothing explains, now that the row was read.

        Raises:
            PermanentDataverseError: It is the second one: another row has a value that must be
                unique.
            TransientDataverseError: It is the second one, and the service says that it was about
                the row's version.
        """
        if not self._unexplained:
            self._unexplained = True
            return
        if refused.code != VERSION_MISMATCH:
            raise value_taken(refused)
        error = TransientDataverseError(
            refused.method,
            refused.path,
            refused.status,
            refused.code,
            "the row has the version that was sent",
            applied=Applied.NO,
            trace=refused.trace,
        )
        error.part = refused.part
        raise error


def may_hide_a_row(error: TransientDataverseError) -> bool:
    """Whether the row that is to be created may be the reason, as often as it is sent.

    SAP CAP answers 500 where a key is taken. What was refused at the door says nothing of rows.
    """
    return error.status == HTTPStatus.INTERNAL_SERVER_ERROR and error.applied is not Applied.NO
