"""DBOS: a workflow of four steps; its system database is SQLite, as DBOS sets it up by default.

It recommends Postgres for production. A killed process loses nothing of either.

- Recovery: a process that is started again recovers pending workflows at launch, from the last
  completed step (https://docs.dbos.dev/explanations/how-workflows-work).
- Retries, and which errors are worth one: https://docs.dbos.dev/python/tutorials/step-tutorial.
- The workflow's id is its idempotency key
  (https://docs.dbos.dev/python/tutorials/idempotency-tutorial); the remote's key is made from it.
  A call that was killed before its workflow was recorded is made again, with the same id.
"""

from benchmarks.lost_reply import crm as client

NAME = "DBOS"
HAS_TEMPLATE = True
PACKAGES = ("dbos",)


def load(folder: str) -> None:
    import dbos  # noqa: F401


def work(job) -> None:
    from dbos import DBOS, SetWorkflowID

    database = f"sqlite:///{job.folder}/dbos.sqlite"
    settings = {"name": "session", "system_database_url": database, "application_version": "1"}
    DBOS(config=settings | {"log_level": "CRITICAL"})
    workflow = _workflow(DBOS, job.crm)
    DBOS.launch()
    if job.verb == "template":
        return
    if DBOS.get_workflow_status(job.session) is None:
        with SetWorkflowID(job.session):
            workflow()
    else:
        DBOS.retrieve_workflow(job.session).get_result(polling_interval_sec=0.05)


def _workflow(DBOS, crm):
    def step(name: str, call):
        rule = client.may_retry(name, crm.setup)
        retries = {"retries_allowed": True, "interval_seconds": 0.0, "max_attempts": client.ATTEMPTS}
        return DBOS.step(name=name, should_retry=rule, **retries)(call)

    baseline = step("baseline", lambda: crm.baseline())
    create = step("create", lambda key: crm.create(key))
    update = step("update", lambda deal: crm.update(deal))
    email = step("email", lambda: crm.email())

    @DBOS.workflow(name="three writes")
    def three_writes() -> None:
        deal = baseline()
        create(f"{DBOS.workflow_id}-create")
        update(deal)
        email()

    return three_writes
