"""A contender's process: it loads the contender once, and forks for each job.

    python -m benchmarks.lost_reply.zygote NAME FOLDER

Each line of its input is a job as JSON; it answers each with a line of JSON: how the child ended
(as a negative signal, or 0), what it said, and how many local steps it took.
"""

import gc
import importlib
import json
import os
import sys
import threading
import traceback
from dataclasses import dataclass

from benchmarks.lost_reply.crm import ASKS, Crm, NotApplied
from benchmarks.lost_reply.local_steps import LocalSteps


@dataclass
class Job:
    """What a child is to do.

    Attributes:
        verb: run, or recover as the contender's documentation says; template prepares what a new
            scenario's folder holds; answer is an operator's decision.
        folder: The scenario's; what the contender keeps is there.
        session: The session's id.
        round: 0 for the run, then 1, 2 ... for each recovery; an hour lies between two of them.
        crm: The client.
        variant: Of the contender's own settings; "" for its defaults.
        facts: What an operator has found out, by step, for the verb answer.
    """

    verb: str
    folder: str
    session: str
    round: int
    crm: Crm
    variant: str
    facts: dict
    steps: LocalSteps


def child(contender, asked: dict, answers: int) -> None:
    steps = LocalSteps(asked["folder"], asked.pop("deadly"))
    crm = Crm(asked.pop("url"), asked.pop("setup"), asked.pop("moment"), asked.pop("exchange"))
    job = Job(**asked, crm=crm, steps=steps)
    said, why = "done", ""
    if job.verb != "template":
        steps.watch()
    try:
        said = contender.work(job) or "done"
    except ASKS as error:
        said, why = "asks", f"{type(error).__name__}: {error}"
    except NotApplied as error:
        said, why = "again", str(error)
    except BaseException as error:
        traceback.print_exc()
        said, why = "failed", f"{type(error).__name__}: {error}"
    os.write(answers, json.dumps({"said": said, "why": why[:300], "steps": steps.count}).encode())


def forked(contender, asked: dict) -> dict:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reader)
            sys.stdin = open(os.devnull)
            child(contender, asked, writer)
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read()
    _, status = os.waitpid(pid, 0)
    end = os.waitstatus_to_exitcode(status)
    return {"end": end} | (json.loads(said) if said else {"said": "killed", "why": "", "steps": 0})


def main(name: str, folder: str) -> None:
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever a library prints is no answer
    try:
        contender = importlib.import_module(f"benchmarks.lost_reply.contenders.{name}")
        contender.load(folder)
    except ModuleNotFoundError as error:
        print(json.dumps({"problem": f"{error.name} is not installed"}), file=answers, flush=True)
        return
    if threading.active_count() > 1:
        sys.exit(f"{name} has started threads, which a fork would lose: {threading.enumerate()}")
    # What is loaded stays out of the collector's sight, so that children copy fewer pages.
    gc.collect()
    gc.freeze()
    print(json.dumps({"problem": ""}), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(forked(contender, json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
