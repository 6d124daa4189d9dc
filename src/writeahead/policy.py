"""How hard a run tries: attempts, waits, limits and leases."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from writeahead.errors import LONGEST_WAIT

__all__ = ["LONGEST_LEASE", "RunPolicy"]

LONGEST_LEASE = LONGEST_WAIT
_DAY = 86_400.0
# What `RunPolicy.journal` meant in earlier versions, as a `journal_interval`.
_INTERVALS = {"every": 0.0, "batched": _DAY}


def _split(given: Any) -> Any:
    """Take ``1,5,15`` apart, which is how a flag and a variable write several values."""
    return given.split(",") if isinstance(given, str) else given


_Wait = Annotated[float, Field(ge=0, le=_DAY)]
_Waits = Annotated[Sequence[_Wait], Field(min_length=1), AfterValidator(tuple)]


class RunPolicy(BaseModel):
    """How hard a run tries. Times are seconds; a lease is at most 30 days.

    Attributes:
        attempts: Requests for one operation, the first one included. With ``waits`` the default is
            one more than there are waits.
        wait_initial: Wait before the second attempt; each further wait is twice the one before, and
            up to half of each is taken off at random.
        wait_max: The longest of these waits. A remote's Retry-After is a floor under each of them.
        waits: The waits between attempts, in place of the two above, and kept to the letter:
            ``[1, 5, 15]``. With fewer attempts the rest is not used, with more the last wait comes
            again. A Retry-After is a floor under them, too.
        retry_after_max: The longest Retry-After that a run waits for. A longer one parks it at
            once. None: each is waited for that fits into ``run_limit`` and ``lease``.
        run_limit: Time limit for the whole run; a wait that does not fit parks the run.
        lease: How long this run may stay silent before another may take its session over.
        journal_interval: How old the newest journal entry may be while receipts wait in memory for
            the next one; half the lease at most, and 0 for an entry after each operation. After a
            crash, what was confirmed meanwhile is sent again, and settled by its replay class.
            Some receipts never wait: docs/protocol.md, "What may wait".
        max_in_flight: How many independent operations may be under way at once, each in a thread,
            where the adapter says that it can be called so (`Adapter.thread_safe`). 1: one after
            the other. Others are sent one after the other in any case.
        journal: What earlier versions said: ``every`` is an interval of 0, ``batched`` one of a
            day. It warns, and goes in the next version.
        clock_skew: How far two machines' clocks may be apart; added before a lease is held to be
            over.
        max_turns: Resumes after which a session that makes no progress is blocked as ``gave_up``;
            None for no limit, since a long outage is no reason for manual work.
        max_age: Seconds after its plan, from which on a resume blocks it as ``gave_up``; None for
            no limit. The first resume after an operator's unblock is not blocked for this.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    attempts: int = Field(default=4, ge=1)
    wait_initial: float = Field(default=1.0, ge=0, le=_DAY)
    wait_max: float = Field(default=4.0, ge=0, le=_DAY)
    waits: Annotated[_Waits | None, BeforeValidator(_split)] = None
    retry_after_max: float | None = Field(default=None, ge=0, le=LONGEST_WAIT)
    run_limit: float = Field(default=300.0, gt=0, le=LONGEST_WAIT)
    lease: float = Field(default=600.0, gt=0, le=LONGEST_LEASE)
    journal_interval: float = Field(default=1.0, ge=0, le=_DAY)
    max_in_flight: int = Field(default=10, ge=1, le=1000)
    journal: Literal["every", "batched"] | None = None
    clock_skew: float = Field(default=5.0, ge=0, le=_DAY)
    max_turns: int | None = Field(default=None, ge=1)
    max_age: float | None = Field(default=None, gt=0)

    @field_validator("waits")
    @classmethod
    def _in_place_of_the_others(cls, waits: Sequence[float] | None, info: ValidationInfo) -> Any:
        # By value, since a policy that was dumped whole has all three.
        fields = {name: cls.model_fields[name].default for name in ("wait_initial", "wait_max")}
        if waits and any(info.data.get(name, usual) != usual for name, usual in fields.items()):
            message = "waits take the place of wait_initial and wait_max: leave those out"
            raise PydanticCustomError("waits_twice", message)
        return waits

    @model_validator(mode="after")
    def _one_attempt_more(self) -> Self:
        if self.waits and "attempts" not in self.model_fields_set:
            # Frozen for all others; this is still its making.
            object.__setattr__(self, "attempts", len(self.waits) + 1)
        return self

    @property
    def longest_wait(self) -> float:
        """The longest wait between two attempts, unless the remote asks for more."""
        return max(self.waits) if self.waits else self.wait_max

    @model_validator(mode="before")
    @classmethod
    def _in_words_of_today(cls, given: Any) -> Any:
        word = given.get("journal") if isinstance(given, Mapping) else None
        if word not in tuple(_INTERVALS):
            return given
        interval = _INTERVALS[word]
        message = f'journal = "{word}" goes in the next version: write journal_interval = {interval:g}'
        warnings.warn(message, DeprecationWarning, stacklevel=3)
        return {"journal_interval": interval, **given, "journal": None}
