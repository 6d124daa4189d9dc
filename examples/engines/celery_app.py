"""Celery on Redis: each session is a task, which comes again until its session is done with."""

import os
from datetime import UTC, datetime, timedelta

from celery import Celery

from writeahead import RunPolicy, resume_item
from writeahead.items import AdapterSpec

STORE, ADAPTER = os.environ["WRITEAHEAD_STORE"], AdapterSpec(os.environ["WRITEAHEAD_ADAPTER"])
VISIBILITY = int(os.environ.get("VISIBILITY_TIMEOUT", "600"))  # seconds
POLICY = RunPolicy(run_limit=VISIBILITY / 2, lease=VISIBILITY)

app = Celery("celery_app", broker=os.environ["BROKER_URL"])
app.conf.task_acks_late = app.conf.task_reject_on_worker_lost = True
app.conf.worker_prefetch_multiplier = 1
app.conf.broker_transport_options = {
    "visibility_timeout": VISIBILITY,
    "unacked_restore_throttle": 1,  # look for lost messages every 10 seconds, not every 100
}


@app.task(bind=True, max_retries=None, ignore_result=True)
def resume(self, session_id):
    outcome = resume_item(STORE, ADAPTER, session_id, policy=POLICY)
    if outcome.not_before:
        soon = datetime.now(UTC) + timedelta(seconds=VISIBILITY / 2)
        raise self.retry(eta=min(outcome.not_before, soon))
