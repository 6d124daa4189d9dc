"""tenacity alone: each write is retried; after a kill the program is started again, from its first
line.

tenacity keeps nothing: https://tenacity.readthedocs.io/en/latest/ tells of retries within one
call, and of no recovery. The idempotency key is made from the session's id, so that it is the
same each time. A second run that finds the deal at our stage leaves it alone.
"""

from benchmarks.lost_reply import crm as client
from benchmarks.lost_reply.remote import OURS

NAME = "tenacity alone"
PACKAGES = ("tenacity",)


def load(folder: str) -> None:
    import tenacity  # noqa: F401


def retried(step: str, setup: str, call, *args):
    from tenacity import Retrying, retry_if_exception, stop_after_attempt

    rule = retry_if_exception(client.may_retry(step, setup))
    return Retrying(stop=stop_after_attempt(client.ATTEMPTS), retry=rule, reraise=True)(call, *args)


def work(job) -> None:
    crm = job.crm
    baseline = retried("baseline", crm.setup, crm.baseline)
    retried("create", crm.setup, crm.create, job.session)
    if baseline["stage"] != OURS:
        retried("update", crm.setup, crm.update, baseline)
    retried("email", crm.setup, crm.email)
