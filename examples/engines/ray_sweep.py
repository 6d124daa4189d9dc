"""Ray: each session is a task; one whose worker dies is run by another."""

import os
from datetime import UTC, datetime
from time import sleep

import ray

from writeahead import find_sessions, open_store, resume_item
from writeahead.items import AdapterSpec

STORE, ADAPTER = os.environ["WRITEAHEAD_STORE"], AdapterSpec(os.environ["WRITEAHEAD_ADAPTER"])

ray.init(address=os.environ.get("RAY_ADDRESS"))
resume = ray.remote(max_retries=3)(resume_item)
names = [found.session_id for found in find_sessions(open_store(STORE), "open")]
while names:
    outcomes = ray.get([resume.remote(STORE, ADAPTER, name) for name in names])
    for outcome in outcomes:
        print(outcome.session_id, outcome.status, outcome.error or "")
    again = {outcome.session_id: outcome.not_before for outcome in outcomes if outcome.not_before}
    names = list(again)
    if again:
        sleep(max(0.0, (min(again.values()) - datetime.now(UTC)).total_seconds()))
