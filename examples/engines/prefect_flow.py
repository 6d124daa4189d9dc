"""Prefect: a flow maps a task over the open sessions, and waits for those that are not due."""

import os
from datetime import UTC, datetime
from time import sleep

from prefect import flow, task

from writeahead import find_sessions, open_store, resume_item
from writeahead.items import AdapterSpec

STORE, ADAPTER = os.environ["WRITEAHEAD_STORE"], AdapterSpec(os.environ["WRITEAHEAD_ADAPTER"])
resume = task(retries=2, retry_delay_seconds=10, cache_policy=None, persist_result=False)(resume_item)


@flow
def resume_writebacks():
    names = [found.session_id for found in find_sessions(open_store(STORE), "open")]
    while names:
        outcomes = [resume.submit(STORE, ADAPTER, name) for name in names]
        outcomes = [future.result() for future in outcomes]
        again = {outcome.session_id: outcome.not_before for outcome in outcomes if outcome.not_before}
        names = list(again)
        if again:
            sleep(max(0.0, (min(again.values()) - datetime.now(UTC)).total_seconds()))


if __name__ == "__main__":
    resume_writebacks()
