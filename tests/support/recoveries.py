"""How a session that its runs left is finished: sound requests, and an operator who looks."""

from tests.support.actors import Tools
from tests.support.remotes import found_out
from tests.support.stepping import (
    LIFETIME,
    PAST_LEASE,
    PLANNED,
    POLICY,
    SESSION,
    Remote,
    SteppedClock,
    SteppingAdapter,
    Time,
    TimedStore,
    check_promises,
    is_tombstone,
    require,
)
from writeahead.model import RunReport
from writeahead.protocol.resuming import resume_session
from writeahead.protocol.sweep import sweep
from writeahead.protocol.unblocking import unblock_session


def recover(store: TimedStore, remote: Remote, time: Time, ahead: float = 0.0) -> None:
    """Finish a session, with sound requests and an operator who looks before deciding."""
    tools = Tools(store, SteppingAdapter(remote, lambda _: "ok", time), SteppedClock(time))
    if PLANNED not in store.content or is_tombstone(store.content[PLANNED]):
        return
    for _ in range(6):
        time.seconds += PAST_LEASE + LIFETIME + POLICY.clock_skew + ahead
        report = resume(tools)
        check_promises(store.content, remote)
        if report.status in ("completed", "no_resume_needed", "abandoned"):
            break
        require(report.status == "blocked", f"DEAD_END: a late resume says {report.status}: {report.error}")
        require(bool(report.block_reason and report.error), "SILENT_BLOCK: in the report")
        assume = {}
        unknown = [stop.operation for stop in report.stops if stop.block_reason == "outcome_unknown"]
        for name in unknown[:1]:  # one after the other
            assume = {name: found_out(bool(remote.effects.get(name)))}
        unblock_session(SESSION, store=store, reason="looked", assume=assume, clock=tools.clock)
        check_promises(store.content, remote)
    is_final = f"{SESSION}/writeback.json" in store.content
    require(is_final or report.status == "abandoned", "DEAD_END: it never came to its end")
    list(sweep(store, tools.adapter, policy=POLICY, clock=tools.clock))
    left = [key for key in store.content if key.startswith(".")]
    require(not left, f"LEFT_OVER: {left}")


def resume(tools: Tools) -> RunReport:
    return resume_session(SESSION, store=tools.store, adapter=tools.adapter, policy=POLICY, clock=tools.clock)
