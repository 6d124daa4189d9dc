"""Airflow: a run each ten minutes lists the open sessions, and maps a task over them."""

import os
from datetime import UTC, datetime, timedelta

from airflow.sdk import dag, task

from writeahead import find_sessions, open_store, resume_item
from writeahead.items import AdapterSpec

STORE, ADAPTER = os.environ["WRITEAHEAD_STORE"], AdapterSpec(os.environ["WRITEAHEAD_ADAPTER"])


@dag(
    schedule=timedelta(minutes=10),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
)
def resume_writebacks():
    @task
    def unfinished():
        return [found.session_id for found in find_sessions(open_store(STORE), "resume_needed")]

    @task(retries=1, max_active_tis_per_dag=16)
    def resume(session_id):
        outcome = resume_item(STORE, ADAPTER, session_id)
        return f"{outcome.status}: {outcome.error or 'nothing to say'}"

    resume.expand(session_id=unfinished())


writebacks = resume_writebacks()
