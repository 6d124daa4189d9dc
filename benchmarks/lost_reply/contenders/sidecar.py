"""A hand-written sidecar file: the steps that are done, as JSON, replaced atomically after each.

Retries by tenacity. After a kill the program is started again, and leaves out what the file
names. No documentation exists; this is what the quick solution looks like when it is done with
care: the file is synced before it is renamed, and the folder after it.
"""

import json
import os
from pathlib import Path

from benchmarks.lost_reply.contenders.tenacity_alone import load, retried

__all__ = ["NAME", "PACKAGES", "load", "work"]

NAME = "hand-written sidecar file"
PACKAGES = ("tenacity",)


class Sidecar:
    def __init__(self, folder: str) -> None:
        self._path = Path(folder, "done.json")
        self.done = json.loads(self._path.read_text()) if self._path.exists() else {}

    def record(self, step: str, value: object) -> None:
        self.done[step] = value
        temporary = self._path.with_suffix(".new")
        with temporary.open("w") as file:
            json.dump(self.done, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)


def work(job) -> None:
    crm, sidecar = job.crm, Sidecar(job.folder)

    def once(step: str, call, *args):
        if step not in sidecar.done:
            sidecar.record(step, retried(step, crm.setup, call, *args))
        return sidecar.done[step]

    baseline = once("baseline", crm.baseline)
    once("create", crm.create, job.session)
    once("update", crm.update, baseline)
    once("email", crm.email)
