"""Try the package as it was installed, without any extra: by ``python -I`` of its environment.

`nox -s build` calls it in an empty folder, for the wheel and the sdist, on each Python.
"""

import subprocess
import sys
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

import writeahead
from writeahead import Adapter, Receipt, emits, open_store, resume_session, write_back
from writeahead.errors import TransientError

assert "site-packages" in Path(writeahead.__file__).parts, writeahead.__file__
for name in writeahead.__all__:
    getattr(writeahead, name)
assert version("writeahead") == writeahead.__version__
assert files("writeahead").joinpath("py.typed").is_file()


class Crm(Adapter):
    name = "crm"
    down = True

    @emits("upsert")
    def emit_row(self, payload: dict, operation):
        if self.down:
            raise TransientError("503")
        return Receipt()


crm, store = Crm(), open_store("./artifacts")
policy = writeahead.RunPolicy(attempts=1)
rows = [{"kind": "row", "payload": {"text": "x"}}]
assert write_back(rows, session_id="s1", store=store, adapter=crm, policy=policy).status == "resume_needed"
crm.down = False
assert resume_session("s1", store=store, adapter=crm).status == "completed"

# A script is beside the interpreter.
command = [Path(sys.executable).with_name("writeahead"), "--version"]
done = subprocess.run(command, capture_output=True, text=True, check=True)
assert done.stdout == f"writeahead {writeahead.__version__}\n", done.stdout
done = subprocess.run([command[0], "list"], capture_output=True, text=True, check=False)
assert done.returncode == 2, done
assert "writeahead[cli]" in done.stderr, done.stderr
print(f"writeahead {writeahead.__version__} on Python {sys.version.split()[0]}, without extras: it works")
