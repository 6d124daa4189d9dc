"""Bugs that are planted into the real code, to see that more than one kind of proof finds them."""

from writeahead.model import RunStatus
from writeahead.protocol import journal, resuming, session


def without_suspicion(monkeypatch):
    monkeypatch.setattr(resuming, "_suspect_silent_owner", lambda *_: None)


def with_a_takeover_that_forgets(monkeypatch):
    honest = journal.Journal.of.__func__

    def of(cls, *args, **more):
        new = honest(cls, *args, **more)
        new.attempted.clear()
        return new

    monkeypatch.setattr(journal.Journal, "of", classmethod(of))


def with_an_abandoned_session_resumed(monkeypatch):
    honest = session.StoredSession.status

    def status(self, *args):
        is_abandoned = self.entry is not None and self.entry.status is RunStatus.ABANDONED
        return RunStatus.RESUME_NEEDED if is_abandoned else honest(self, *args)

    monkeypatch.setattr(session.StoredSession, "status", status)
