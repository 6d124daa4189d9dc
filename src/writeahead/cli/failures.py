"""From an error to one or two lines to read, and to an exit code."""

from writeahead.cli.exit_code import ExitCode
from writeahead.errors import (
    CorruptArtifact,
    Fenced,
    InvalidInput,
    NewerArtifact,
    NotReady,
    StoreError,
    Unsupported,
    WriteaheadError,
)
from writeahead.model import RunStatus

__all__ = ["exit_code_of", "exit_code_of_status", "lines_of"]

_OF_STATUS = {
    RunStatus.COMPLETED: ExitCode.OK,
    RunStatus.NO_RESUME_NEEDED: ExitCode.OK,
    RunStatus.PLANNED: ExitCode.OK,
    RunStatus.BLOCKED: ExitCode.BLOCKED,
    RunStatus.ABANDONED: ExitCode.BLOCKED,
    RunStatus.RESUME_NEEDED: ExitCode.LATER,
    RunStatus.IN_PROGRESS: ExitCode.LATER,
}

# What to do, where the message itself can't know it. The first class that fits counts.
_HINTS: tuple[tuple[type[Exception], str], ...] = (
    (NewerArtifact, ""),
    (
        CorruptArtifact,
        "It is not worked around. 'writeahead show' says what of the session still reads, and what to do.",
    ),
    (
        Unsupported,
        "Correct its settings, or choose another store; 'writeahead check' says what this one lacks.",
    ),
    (StoreError, "Nothing is lost. Fix that, and run the same command again on the same store."),
)


def exit_code_of_status(status: RunStatus) -> ExitCode:
    """Return the exit code that a run's status has."""
    return _OF_STATUS[status]


def exit_code_of(error: BaseException) -> ExitCode:
    """Return the exit code for a command that ended with this error."""
    match error:
        case InvalidInput():
            return ExitCode.USAGE
        case NotReady():
            return ExitCode.BLOCKED
        case Fenced():
            return ExitCode.LATER
    return ExitCode.FAILED


def lines_of(error: BaseException) -> list[str]:
    """Say what went wrong and what to do, in one or two lines.

    Of an exception that is not ours only the type is named: its message may hold a secret.
    """
    if isinstance(error, WriteaheadError):
        hint = next((text for kind, text in _HINTS if isinstance(error, kind)), "")
        return [f"error: {' '.join(str(error).split())}", *([hint] if hint else [])]
    return [
        f"error: unexpected {type(error).__name__}: a bug in writeahead or in the adapter",
        "See 'writeahead list --state open' for what can be resumed. WRITEAHEAD_DEBUG=1 shows the traceback.",
    ]
