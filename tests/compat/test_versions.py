"""The released version and this one on the same sessions: nothing corrupt, doubled or lost.

`nox -s compat` installs the released version beside this one and names its Python in
WRITEAHEAD_OLD_PYTHON. Each side runs as processes of its own. Where a version meets an artifact
that is too new for it, the right answer is a refusal that says "upgrade": nothing is sent, no
artifact changes, and the newer version finishes the session.
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.compat.driver import DIED
from tests.compat.remote import serving

OLD = os.environ.get("WRITEAHEAD_OLD_PYTHON")
pytestmark = pytest.mark.skipif(not OLD, reason="WRITEAHEAD_OLD_PYTHON is not set: run `nox -s compat`")

HERE = Path(__file__).parent
ADAPTER = "driver:RowsAdapter"
KINDS = ("create", "upsert", "update", "lookup", "mail")
IDS = [f"{number}-{kind}" for number, kind in enumerate(KINDS, start=1)]
# The encoding of digests must be the same for what JSON can hold and some writers of it change.
ODD = {"text": "ä\u2028", "part": 0.1, "large": 1e22, "id": 12345678901234567890123, "none": [None, -0.0]}
OK, BLOCKED, FAILED, LATER = 0, 1, 3, 75
PAST = 7200


@dataclass(frozen=True)
class State:
    """How a session is left, and what the other version must say of it.

    Attributes:
        meets: What the writer's requests meet, by operation id.
        code: The exit code of the writer's run.
        then: What the writer does next: an ``unblock``'s arguments, or one more ``resume``.
        status: What ``list`` and ``show`` say.
        unblock: Set if the session blocks: the arguments that an ``unblock`` needs.
        mails: How many requests of the e-mail arrive in all.
        interval: 0 for a journal entry after each operation.
        atomic: The session is one transaction.
    """

    meets: dict[str, list[str]] = field(default_factory=dict)
    code: int = OK
    then: tuple[str, ...] = ()
    status: str = "resume_needed"
    unblock: tuple[str, ...] | None = None
    mails: int = 1
    interval: int = 0
    atomic: bool = False


APPLIED = ("--assume", "applied", "5-mail")
NOT_APPLIED = ("--assume", "not-applied", "5-mail")
STATES = {
    "planned": State({"1-create": ["die-before"]}, DIED),
    "journaled": State({"3-update": ["die-before"]}, DIED),
    "sent": State({"3-update": ["die-after"]}, DIED),
    "sent-lookup": State({"4-lookup": ["die-after"]}, DIED),
    "announced": State({"5-mail": ["die-before"]}, DIED, unblock=NOT_APPLIED, mails=2),
    "announced-sent": State({"5-mail": ["die-after"]}, DIED, unblock=APPLIED),
    "claimed": State({"3-update": ["unavailable", "die-before"]}, LATER, ("resume",)),
    "parked": State({"3-update": ["unavailable"]}, LATER),
    "parked-batched": State({"3-update": ["unavailable"]}, LATER, interval=300),
    "parked-lookup": State({"4-lookup": ["lost"]}, LATER),
    "blocked-conflict": State({"3-update": ["conflict"]}, BLOCKED, status="blocked", unblock=()),
    "blocked-rejected": State({"2-upsert": ["rejected"]}, BLOCKED, status="blocked", unblock=()),
    "blocked-unknown": State({"5-mail": ["lost"]}, BLOCKED, status="blocked", unblock=APPLIED),
    "unblocked": State({"3-update": ["conflict"]}, BLOCKED, ("unblock",)),
    "unblocked-assumed": State({"5-mail": ["lost"]}, BLOCKED, ("unblock", *APPLIED)),
    "final": State(status="completed"),
    "atomic-parked": State({"all": ["unavailable"]}, LATER, atomic=True),
    "atomic-sent": State({"all": ["die-after"]}, DIED, atomic=True),
    "atomic-blocked": State({"all": ["conflict"]}, BLOCKED, status="blocked", unblock=(), atomic=True),
    "atomic-final": State(status="completed", atomic=True),
}
ON_S3 = ["parked", "blocked-unknown", "unblocked", "final"]
# Each with `resume`; and what can be found or started again in other ways, with those.
WAYS = [(name, "resume") for name in STATES]
WAYS += [
    (name, verb)
    for name in ("sent-lookup", "blocked-conflict", "atomic-sent")
    for verb in ("repeat", "sweep")
]


@dataclass(frozen=True)
class Done:
    """What a command left."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


class Side:
    """One of the two versions: its command line, as processes of its own."""

    def __init__(self, python, pythonpath):
        self.python = python
        self._pythonpath = os.pathsep.join(filter(None, [str(HERE), pythonpath]))

    def environment(self):
        kept = {name: value for name, value in os.environ.items() if name.startswith(("AWS_", "PATH", "TMP"))}
        return {
            **kept,
            "PYTHONPATH": self._pythonpath,
            "WRITEAHEAD_ATTEMPTS": "1",
            "WRITEAHEAD_CLOCK_SKEW": "0",
        }

    def __call__(self, folder, *arguments, **more):
        return self.wait(self.start(folder, *arguments, **more))

    def start(self, folder, *arguments, **more):
        environment = self.environment() | {"HOME": str(folder)} | more
        return subprocess.Popen(
            [self.python, *arguments],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @staticmethod
    def wait(process):
        out, err = process.communicate(timeout=120)
        return Done(process.returncode, out, err)


class Folder:
    """A store in a folder, seen around every version."""

    def __init__(self, root):
        self.url = str(root)
        self._root = root

    def artifacts(self):
        return {key: data for key, data in self.everything().items() if key.endswith(".json")}

    def everything(self):
        files = (path for path in self._root.rglob("*") if path.is_file())
        return {str(path.relative_to(self._root)): path.read_bytes() for path in files}

    def age(self):
        """Let every lease be over: what is here was written long ago."""
        then = time.time() - PAST
        for path in self._root.rglob("*"):
            os.utime(path, (then, then))


class Bucket(Folder):
    """A store in a bucket, seen around every version. Its clock is the server's: no lease ends."""

    def __init__(self, raw):
        self.url = f"s3://{raw.name}/sessions?endpoint_url={raw.server}"
        self._raw = raw

    def everything(self):
        return {key: self._raw.read(key) for key in self._raw.keys()}  # noqa: SIM118 - no dict

    def age(self):
        pass


class Case:
    """One session on one store, its remote, and the commands of both versions on them."""

    def __init__(self, folder, store, remote, state):
        self.folder, self.store, self.remote, self.state = folder, store, remote, state
        self.id = "s1"
        kinds = KINDS[:3] if state.atomic else KINDS
        rows = [{"kind": kind, "payload": ODD | {"position": n}} for n, kind in enumerate(kinds)]
        self.session = folder / "session.json"
        self.session.write_text(json.dumps({"session_id": self.id, "operations": rows}))
        (folder / "writeahead.toml").write_text(
            f"store = {json.dumps(store.url)}\nadapter = {json.dumps(ADAPTER)}\n"
            f"[adapters.{json.dumps(ADAPTER)}]\nurl = {json.dumps(remote.url)}\n"
        )
        # A version takes the variables of the fields that it has.
        self.journal = {
            "WRITEAHEAD_JOURNAL": "batched" if state.interval else "every",
            "WRITEAHEAD_JOURNAL_INTERVAL": str(state.interval),
        }

    def do(self, side, *arguments):
        return Side.wait(self.start(side, *arguments))

    def start(self, side, *arguments):
        return side.start(self.folder, "-m", "writeahead", *arguments, **self.journal)

    def run(self, side):
        atomic = ["--atomic"] if self.state.atomic else []
        return self.do(side, "run", "session.json", "--write", *atomic)

    def unblock(self, side, *assume):
        return self.do(side, "unblock", self.id, "--reason", "looked it up", *assume)

    def leave(self, side):
        """Bring the session into its state."""
        self.remote.script = {name: list(meets) for name, meets in self.state.meets.items()}
        done = self.run(side)
        assert done.code == self.state.code, done
        if self.state.then:
            verb, *rest = self.state.then
            done = self.unblock(side, *rest) if verb == "unblock" else self.do(side, "resume", self.id)
            assert done.code == (OK if verb == "unblock" else DIED), done
        self.remote.script = {}
        self.store.age()

    def version(self):
        """The newest format version of the session's artifacts."""
        return max(json.loads(data)["version"] for data in self.store.artifacts().values())

    def listed(self, side, *more):
        done = self.do(side, "list", "--json", *more)
        assert done.code == OK, done
        return {line["session_id"]: line for line in done.json["sessions"]}

    def finish(self, side, verb):
        """Resume the session to its end by this side, unblocking it on the way."""
        if self.state.status == "completed":
            verb = "resume"
        done = self._go_on(side, verb)
        if self.state.unblock is not None:
            assert done.code == (OK if verb == "sweep" and self.state.status == "blocked" else BLOCKED), done
            done = self.unblock(side, *self.state.unblock)
            assert done.code == OK, done
            done = self._go_on(side, "resume")
        assert done.code == OK, done

    def _go_on(self, side, verb):
        match verb:
            case "resume":
                return self.do(side, "resume", self.id)
            case "repeat":
                return self.run(side)
            case _:
                return self.do(side, "sweep", "--write")

    def check_truth(self):
        """Nothing lost, nothing doubled, nothing altered: as the remote and the store have it."""
        operations = json.loads(self.store.artifacts()[f"{self.id}/writeback.json"])["operations"]
        keys = [operation["key"] for operation in operations]
        assert [operation["id"] for operation in operations] == (IDS[:3] if self.state.atomic else IDS)
        assert {key: self.remote.effects[key] for key in keys} == dict.fromkeys(keys, 1)
        assert sum(self.remote.effects.values()) == len(keys)
        assert self.remote.altered == []
        assert self.remote.requests.count("5-mail") == (0 if self.state.atomic else self.state.mails)
        markers = [key for key in self.store.everything() if key.startswith((".open/", ".blocked/"))]
        assert markers == []


@pytest.fixture(scope="session")
def old():
    return Side(OLD, "")


@pytest.fixture(scope="session")
def new():
    return Side(sys.executable, os.environ.get("PYTHONPATH", ""))


@pytest.fixture(params=["old-to-new", "new-to-old"])
def sides(request, old, new):
    """Who writes, and who reads."""
    return (old, new) if request.param == "old-to-new" else (new, old)


@pytest.fixture
def remote():
    with serving() as remote:
        yield remote


@pytest.fixture
def case(tmp_path, remote):
    def make(state, store=None):
        (tmp_path / "artifacts").mkdir()
        return Case(tmp_path, store or Folder(tmp_path / "artifacts"), remote, state)

    return make


@pytest.fixture(scope="session")
def known(tmp_path_factory, old, new):
    """The format version that each side writes, which is the newest that it reads."""
    versions = {}
    for side in (old, new):
        folder = tmp_path_factory.mktemp("known")
        (folder / "artifacts").mkdir()
        with serving() as remote:
            probe = Case(
                folder, Folder(folder / "artifacts"), remote, State({"3-update": ["conflict"]}, BLOCKED)
            )
            probe.leave(side)
        versions[side] = probe.version()
    return versions


def refuses(case, side):
    """Hold a version to what it must do with artifacts that are too new for it."""
    before, requests = case.store.artifacts(), list(case.remote.requests)
    for done in (
        case.do(side, "show", case.id),
        case.do(side, "resume", case.id),
        case.run(side),
        case.unblock(side),
    ):
        assert done.code == FAILED, done
        assert "upgrade" in done.out + done.err, done
    if case.state.status != "completed":
        assert "upgrade" in case.listed(side)[case.id]["note"]
        assert case.do(side, "sweep", "--write").code == FAILED
    assert case.store.artifacts() == before
    assert case.remote.requests == requests


def goes_on(case, writer, reader, known, verb):
    """Bring a session, as the writer left it, to its end; by the reader if it can read it."""
    finisher = reader
    if case.version() > known[reader]:
        refuses(case, reader)
        finisher = writer
    else:
        is_open = case.state.status != "completed"
        assert (case.id in case.listed(reader, "--state", "open")) == is_open
        assert case.listed(reader)[case.id]["status"] == case.state.status
        shown = case.do(reader, "show", case.id, "--json").json
        assert (shown["status"], shown["problem"]) == (case.state.status, None)
    case.finish(finisher, verb)
    case.check_truth()
    requests = list(case.remote.requests)
    for side in (writer, reader):
        too_new = case.version() > known[side]
        done = case.run(side)
        assert done.code == (FAILED if too_new else OK), done
        assert too_new or case.do(side, "show", case.id, "--json").json["status"] == "completed"
    assert case.remote.requests == requests


def test_two_versions_stand_side_by_side(tmp_path, old, new):
    ask = "import writeahead; print(writeahead.__file__)"
    where = [side(tmp_path, "-c", ask).out for side in (old, new)]
    assert all(where), where
    assert where[0] != where[1]


@pytest.mark.parametrize(("name", "verb"), WAYS)
def test_each_state_goes_on_with_the_other_version(case, sides, known, name, verb):
    writer, reader = sides
    session = case(STATES[name])
    session.leave(writer)
    goes_on(session, writer, reader, known, verb)


@pytest.mark.parametrize("name", ON_S3)
def test_each_state_goes_on_in_a_bucket(case, sides, known, name, s3_bucket):
    writer, reader = sides
    s3_bucket.prefix = "sessions/"
    session = case(STATES[name], Bucket(s3_bucket))
    session.leave(writer)
    goes_on(session, writer, reader, known, "resume")


def test_a_wait_that_the_remote_asked_for_is_kept(case, sides, known):
    writer, reader = sides
    session = case(State({"1-create": ["retry-after"]}, LATER))
    session.leave(writer)
    if session.version() > known[reader]:
        refuses(session, reader)
    else:
        for done in (session.do(reader, "resume", session.id), session.run(reader)):
            assert done.code == LATER, done
        assert session.remote.requests == ["1-create"]
    assert session.id in session.listed(reader, "--state", "open")


def test_versions_take_turns(case, sides, known):
    first, second = sides
    session = case(State({"2-upsert": ["unavailable"]}, LATER))
    session.leave(first)
    for side, stop in ((second, "3-update"), (first, "4-lookup"), (second, "5-mail")):
        session.remote.script = {stop: ["unavailable"]}
        if session.version() > known[side]:
            refuses(session, side)
            continue
        assert session.do(side, "resume", session.id).code == LATER
        session.store.age()
    session.remote.script = {}
    last = max((first, second), key=known.get)
    # An e-mail that was refused was announced before, and each attempt is a request.
    session.state = State(mails=session.remote.requests.count("5-mail") + 1)
    session.finish(last, "resume")
    session.check_truth()


def test_versions_that_start_at_once_double_nothing(case, sides, known):
    writer, reader = sides
    session = case(STATES["parked"])
    session.leave(writer)
    both = [session.start(side, "resume", session.id) for side in sides]
    codes = [Side.wait(process).code for process in both]
    expected = {OK, LATER} | ({FAILED} if known[writer] != known[reader] else set())
    assert OK in codes
    assert set(codes) <= expected
    session.check_truth()


def test_a_dry_run_is_no_session(case, sides):
    writer, reader = sides
    session = case(State())
    assert session.do(writer, "run", "session.json").code == OK
    assert session.listed(reader) == {}
    assert session.do(reader, "resume", session.id).code == FAILED
    assert session.remote.requests == []
    assert session.run(reader).code == OK
    session.check_truth()


def test_a_run_that_died_before_its_plan_is_settled_by_both(case, sides, known):
    writer, reader = sides
    session = case(State())
    (session.folder / "artifacts/.open").mkdir()
    (session.folder / "artifacts/.open/s1").touch()
    session.store.age()
    assert session.do(writer, "sweep", "--write").code == OK
    said = "upgrade" if session.version() > known[reader] else "abandoned"
    done = session.do(reader, "resume", session.id)
    assert done.code == FAILED, done
    assert said in done.err
    # Version 0.1 asks for another session id; later ones run the session under its own.
    done = session.run(reader)
    if done.code == OK:
        session.check_truth()
    else:
        assert done.code == FAILED, done
        assert session.remote.requests == []


def test_other_operations_are_a_conflict_for_both(case, sides, known):
    writer, reader = sides
    session = case(STATES["parked"])
    session.leave(writer)
    before = session.store.artifacts()
    requests = list(session.remote.requests)
    file = json.loads(session.session.read_text())
    file["operations"][0]["payload"]["part"] = 0.2
    session.session.write_text(json.dumps(file))
    done = session.run(reader)
    assert done.code not in (OK, LATER), done
    assert ("upgrade" if session.version() > known[reader] else "other operations") in done.err
    assert session.store.artifacts() == before
    assert session.remote.requests == requests


def test_artifacts_of_an_own_orchestrator_are_read_by_both(tmp_path, sides):
    writer, reader = sides
    driver, store = str(HERE / "driver.py"), str(tmp_path / "artifacts")
    for verb, name in (("plan", "planned-writeback.json"), ("final", "planned-writeback.json")):
        assert writer(tmp_path, driver, verb, store, "own").code == OK
        done = reader(tmp_path, driver, "load", store, "own")
        assert done.out.strip() == name, done
        # Writing the same again is no error, whichever version wrote it.
        done = reader(tmp_path, driver, verb, store, "own")
        assert done.code == OK, done


PRUNE = """
import sys
from datetime import timedelta
from writeahead import open_store, prune
from writeahead.testing import ManualClock
clock = ManualClock()
clock.advance(7200)
assert len(list(prune(open_store(sys.argv[1]), timedelta(hours=1), dry_run=False, clock=clock))) == 1
"""


def test_the_released_version_refuses_a_pruned_session(case, old, new):
    """Not as damaged: a plan that is restored would be sent again."""
    case = case(State())
    case.leave(new)
    done = Side.wait(new.start(case.folder, "-c", PRUNE, case.store.url))
    assert done.code == OK, done
    refuses(case, old)
    done = case.run(new)
    assert (done.code, "no_resume_needed" in done.out) == (OK, True), done
    case.do(new, "sweep", "--write")
    assert set(case.store.everything()) == {"s1/planned-writeback.json", "s1/pruned"}
