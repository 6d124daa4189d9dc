"""dlt: a pipeline into a custom destination, one item a call (``batch_size=1``).

- https://dlthub.com/docs/dlt-ecosystem/destinations/destination: a function that gets each item,
  and keeps its place in the load package. Its items are the three writes; the deal's baseline is
  read at extraction, and so is in the package. ``write_disposition="merge"`` has no meaning for
  such a function.
- Recovery: run the pipeline again; packages that are pending are loaded first
  (https://dlthub.com/docs/running-in-production/running). What was only extracted was never sent:
  it is dropped, as drop-pending-packages does
  (https://dlthub.com/docs/reference/command-line-interface), and extracted again. A kill may leave
  such packages damaged, and run() would then fail each time, or load them beside the new one.
- What must not be tried again is raised as a DestinationTerminalException: the job fails, and the
  load is aborted.
"""

import contextlib

from benchmarks.lost_reply import crm as client

NAME = "dlt"
PACKAGES = ("dlt",)


def load(folder: str) -> None:
    import os

    os.environ |= {
        "RUNTIME__DLTHUB_TELEMETRY": "false",
        "RUNTIME__LOG_LEVEL": "CRITICAL",
        "LOAD__WORKERS": "1",
        "LOAD__RAISE_ON_MAX_RETRIES": str(client.ATTEMPTS),
    }
    import dlt.destinations.impl.destination.destination
    import dlt.load.load
    import dlt.normalize.normalize  # noqa: F401


def work(job) -> None:
    import dlt
    from dlt.common.destination.exceptions import DestinationTerminalException

    crm, given_up = job.crm, []

    @dlt.destination(batch_size=1, name="crm", max_parallel_load_jobs=1)
    def sink(items, table) -> None:
        (item,) = items
        calls = {
            "create": lambda: crm.create(item["key"]),
            "update": lambda: crm.update({"version": item["version"]}),
            "email": crm.email,
        }
        try:
            calls[item["step"]]()
        except Exception as error:
            if client.may_retry(item["step"], crm.setup)(error):
                raise
            given_up.append(error)
            raise DestinationTerminalException(str(error)) from error

    @dlt.resource(name="writes")
    def writes():
        version = _baseline(crm)["version"]
        for step in ("create", "update", "email"):
            yield {"step": step, "key": f"{job.session}-{step}", "version": version}

    pipeline = dlt.pipeline("session", pipelines_dir=job.folder, destination=sink)
    try:
        if _listed(pipeline.list_normalized_load_packages):
            pipeline.load()  # run() normalizes first, also what a kill left of an extraction
        if not _has_loaded_writes(pipeline):
            # What was not normalized was never sent, and may be damaged by a kill.
            with contextlib.suppress(FileNotFoundError):  # a working folder that is half made
                pipeline.drop_pending_packages()
            pipeline.run(writes())
    except Exception:
        if given_up:
            raise given_up[0] from None
        raise


def _listed(list_packages) -> list[str]:
    """The packages of a working folder, which may be half made, too."""
    try:
        return list(list_packages())
    except FileNotFoundError:
        return []


def _has_loaded_writes(pipeline) -> bool:
    """Whether a package that was loaded had our items: a kill may leave one without."""
    loaded = map(pipeline.get_load_package_info, _listed(pipeline.list_completed_load_packages))
    jobs = [job for package in loaded for of_state in package.jobs.values() for job in of_state]
    return any(job.job_file_info.table_name == "writes" for job in jobs)


def _baseline(crm) -> dict:
    from benchmarks.lost_reply.contenders.tenacity_alone import retried

    return retried("baseline", crm.setup, crm.baseline)
