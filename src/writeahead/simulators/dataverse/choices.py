"""The options of choice columns that are an outbound-call service's own."""

__all__ = ["OUTCOMES", "QUEUE_STATUSES", "REASONS"]

_FIRST_CUSTOM_OPTION = 100_000_000


def _custom(*labels: str) -> dict[int, str]:
    return {_FIRST_CUSTOM_OPTION + number: label for number, label in enumerate(labels)}


QUEUE_STATUSES = _custom(
    "pending",
    "in_progress",
    "completed",
    "callback_requested",
    "needs_review",
    "do_not_call",
    "blocked",
    "failed",
)
OUTCOMES = _custom(
    "interested_callback",
    "email_captured",
    "needs_human_review",
    "do_not_call",
    "blocked_by_eligibility",
    "no_answer",
    "voicemail",
)
REASONS = _custom(
    "low_confidence",
    "complaint",
    "identity_not_confirmed",
    "outside_calling_hours",
    "on_do_not_call_list",
    "no_consent",
    "other",
)
