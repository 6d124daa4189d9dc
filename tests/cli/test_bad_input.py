"""Bad input of any kind is named in one or two lines with what to do, and changes nothing."""

import json
import resource
import subprocess
import sys

import pytest

from tests.support.processes import child_environment


def refused(cli, remote, *arguments, code=2):
    """Run a command that must be refused; return its message. Store and remote must not change."""
    before, effects = cli.bytes_in_store(), dict(remote.effects)
    done = cli(*arguments)
    assert done.code == code
    assert done.out == ""
    assert (cli.bytes_in_store(), dict(remote.effects)) == (before, effects)
    lines = done.err.splitlines()
    assert lines[0].startswith("error: ")
    assert len(lines) <= 2
    assert "Traceback" not in done.err

    as_json = cli(*arguments, "--json")
    assert (as_json.code, as_json.err) == (code, done.err)
    assert as_json.json.keys() == {"error", "type"}
    assert as_json.json["error"] == lines[0].removeprefix("error: ")
    assert (cli.bytes_in_store(), dict(remote.effects)) == (before, effects)
    return done.err


SESSIONS = {
    "not JSON": (b'{"session_id": "s1",\n  oops}', ["session.json", "line 2, column 3", "not JSON"]),
    "empty": (b"", ["session.json", "line 1", "not JSON"]),
    "not UTF-8": (b'{"session_id":\n"\xff"}', ["session.json", "line 2", "byte 16 is not UTF-8"]),
    "not a session": (b"[]", ["session.json", '"session_id"', '"operations"']),
    "NaN": (b'{"session_id": NaN}', ["session.json", "NaN"]),
    "a number too large": (
        b'{"session_id": "s1", "operations": [{"kind": "row", "payload": {"x": 1e400}}]}',
        ["session.json", "1e400"],
    ),
    "too deep": (b"[" * 100_000, ["session.json", "too deeply"]),
    "a key twice": (b'{"session_id": "a", "session_id": "b"}', ["'session_id' stands twice"]),
    "no operations": (b'{"session_id": "s1"}', ["session.json: operations is missing"]),
    "no session id": (b'{"operations": []}', ["session.json: session_id is missing"]),
    "unknown key": (
        b'{"session_id": "s1", "operations": [], "operation": 1}',
        ["session.json: operation is unknown"],
    ),
    "unknown key of an operation": (
        b'{"session_id": "s1", "operations": [{"kind": "row"}, {"kind": "row", "paylod": {}}]}',
        ["session.json: operation 2: paylod is unknown"],
    ),
    "no kind": (
        b'{"session_id": "s1", "operations": [{"payload": {}}]}',
        ["session.json: operation 1: kind is missing"],
    ),
    "empty plan": (b'{"session_id": "s1", "operations": []}', ["s1", "no operations"]),
    "operations of the wrong shape": (
        b'{"session_id": "s1", "operations": {"kind": "row"}}',
        ["session.json: operations"],
    ),
    "payload no object": (
        b'{"session_id": "s1", "operations": [{"kind": "row", "payload": "x"}]}',
        ["session.json: operation 1: payload"],
    ),
    "baseline no object": (
        b'{"session_id": "s1", "operations": [{"kind": "row", "baseline": "x"}]}',
        ["session.json: operation 1: baseline"],
    ),
    "a baseline for a kind that takes none": (
        b'{"session_id": "s1", "operations": [{"kind": "row", "payload": {"text": "x"}, "baseline": {}}]}',
        ["1-row", "takes no baseline"],
    ),
    "unknown kind": (
        b'{"session_id": "s1", "operations": [{"kind": "fax", "payload": {}}]}',
        ["1-fax", "'fax'", "mail, row"],
    ),
    "payload of the wrong shape": (
        b'{"session_id": "s1", "operations": [{"kind": "row", "payload": {"text": 7, "x": 1}}]}',
        ["1-row", "wrong shape", "text"],
    ),
    "duplicate operation ids": (
        b'{"session_id": "s1", "operations": [{"kind": "row", "id": "a"}, {"kind": "mail", "id": "a"}]}',
        ["'a'", "twice"],
    ),
    "half of a surrogate pair": (
        b'{"session_id": "s1", "operations": [{"kind": "row", "payload": {"text": "\\ud800"}}]}',
        ["UTF-8"],
    ),
}


@pytest.mark.parametrize(("content", "named"), SESSIONS.values(), ids=SESSIONS)
@pytest.mark.parametrize("write", [["--write"], []], ids=["write", "dry"])
def test_a_bad_session_file(cli, remote, content, named, write):
    message = refused(cli, remote, "run", cli.file(content), *write)
    for part in named:
        assert part in message


def test_a_session_file_that_is_not_there(cli, remote, tmp_path):
    assert "gone.json: there is no such file" in refused(cli, remote, "run", "gone.json")
    assert "can't be read: Is a directory" in refused(cli, remote, "run", tmp_path)


@pytest.mark.parametrize(
    "session_id", ["a/b", "..", ".hidden", "", "x" * 200, "x\n", "caf\N{LATIN SMALL LETTER E WITH ACUTE}"]
)
def test_a_bad_session_id(cli, remote, session_id):
    message = refused(cli, remote, "run", cli.session("row", session_id=session_id), "--write")
    assert "session id" in message
    assert "A-Z a-z 0-9" in message
    if session_id:
        refused(cli, remote, "resume", session_id)
        refused(cli, remote, "show", session_id)


ADAPTERS = {
    "zork": ["'zork' is not installed", "dataverse", "module:factory"],
    "zork.crm:make": ["module zork.crm", "No module named 'zork'"],
    "tests.support.crm:zork": ["module tests.support.crm has no 'zork'"],
    "tests.support.crm:": ["write module:factory"],
    "tests.support.crm:no_adapter": ["returned str, not a writeahead.Adapter"],
    "tests.support.crm:nothing_callable": ["it can't be called"],
    "tests.support.crm:needs_more": ['[adapters."tests.support.crm:needs_more"]', "'tenant'", "url, tenant"],
    "broken_adapter:make": ["module broken_adapter", "SyntaxError", "line 1"],
    "raising_adapter:make": ["module raising_adapter", "raised RuntimeError"],
}


@pytest.mark.parametrize(("adapter", "named"), ADAPTERS.items(), ids=ADAPTERS)
def test_a_bad_adapter(cli, remote, folder, adapter, named):
    cli.store.mkdir()
    (folder / "broken_adapter.py").write_text("def make(:\n")
    (folder / "raising_adapter.py").write_text("raise RuntimeError('planted-secret')\n")
    if adapter.endswith("needs_more"):
        with (folder / "writeahead.toml").open("a") as file:
            file.write(f'[adapters."{adapter}"]\nurl = "x"\n')
    for arguments in (["run", cli.session("row"), "--write"], ["resume", "s1"], ["sweep", "--write"]):
        message = refused(cli, remote, *arguments, "--adapter", adapter)
        for part in [f"adapter '{adapter}'", *named]:
            assert part in message
        assert "planted-secret" not in message


def test_settings_that_a_factory_can_not_take(cli, remote, folder):
    (folder / "typed_adapter.py").write_text("def make(url):\n    return url.rstrip('/') + 7\n")
    (folder / "writeahead.toml").write_text(
        'adapter = "mine"\n[adapters.mine]\nfactory = "typed_adapter:make"\nurl = "planted-secret"\n'
    )
    message = refused(cli, remote, "run", cli.session("row"), "--store", "./artifacts", "--write")
    assert "its factory raised TypeError: check its settings" in message
    assert "planted-secret" not in message
    (folder / "writeahead.toml").write_text('adapter = "mine"\n[adapters.mine]\nfactry = "a:b"\n')
    message = refused(cli, remote, "run", cli.session("row"), "--store", "./artifacts", "--write")
    assert "its table [adapters.mine] needs factory" in message


def test_no_adapter_and_no_store_at_all(cli, remote, folder):
    (folder / "writeahead.toml").write_text("")
    message = refused(cli, remote, "run", cli.session("row"), "--store", "./artifacts")
    assert "no adapter given: use --adapter NAME, WRITEAHEAD_ADAPTER" in message
    for command in (
        ["run", cli.session("row")],
        ["resume", "s1"],
        ["list"],
        ["show", "s1"],
        ["check"],
        ["sweep"],
    ):
        assert "no store given: use --store URL, WRITEAHEAD_STORE" in refused(cli, remote, *command)


@pytest.mark.parametrize(
    ("store", "named"),
    [
        ("zork://x", ["unknown scheme; known: ", "file", "s3"]),
        ("s3:bucket", ["write s3:// for a URL"]),
        ("s3://key:planted-secret@bucket", ["credentials don't belong in a URL"]),
        ("s3://bucket?zork=1", ["unknown option 'zork'", "endpoint_url"]),
    ],
)
def test_a_bad_store_url(cli, remote, store, named):
    for command in (["run", cli.session("row"), "--write"], ["list"], ["check"]):
        message = refused(cli, remote, *command, "--store", store)
        for part in named:
            assert part in message
        assert "planted-secret" not in message


def test_a_bucket_that_is_missing(cli, remote, s3_server):
    message = refused(
        cli,
        remote,
        *["run", cli.session("row"), "--write", "--store", f"s3://no-such-bucket?endpoint_url={s3_server}"],
        code=3,
    )
    assert "s3://no-such-bucket" in message
    assert "bucket" in message.removeprefix("error: s3://no-such-bucket")
    assert "run the same command again" in message


def test_no_permission_on_a_bucket(cli, remote, s3_bucket, s3_proxy):
    from tests.support.s3_proxy import answer

    for _ in range(8):
        s3_proxy.fault("PUT", answer(403, "AccessDenied"))
    store = f"s3://{s3_bucket.name}?endpoint_url={s3_proxy.url}"
    message = refused(cli, remote, "run", cli.session("row"), "--write", "--store", store, code=3)
    assert f"s3://{s3_bucket.name}" in message
    assert s3_bucket.keys() == []


def test_a_store_below_a_file(cli, remote, folder):
    (folder / "plain").write_text("")
    message = refused(cli, remote, "run", cli.session("row"), "--write", "--store", "plain/x", code=3)
    assert "a file is where the store's folder should be" in message
    assert (folder / "plain").read_text() == ""


def test_no_permission_on_a_folder(cli, remote):
    # Not even root may make a folder in /sys.
    store = "/sys/writeahead-test"
    message = refused(cli, remote, "run", cli.session("row"), "--write", "--store", store, code=3)
    assert "/sys/writeahead-test" in message
    assert "not permitted" in message or "denied" in message or "read-only" in message


@pytest.fixture
def mounted(tmp_path):
    """Mounts a small tmpfs with these options; only root may."""
    mounts = []

    def mount(options):
        target = tmp_path / f"mount{len(mounts)}"
        target.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", target], capture_output=True, check=False
        )
        if done.returncode:
            pytest.skip("mounting a tmpfs is not permitted here")
        mounts.append(target)
        return target

    yield mount
    for target in mounts:
        subprocess.run(["umount", target], check=True)


def test_a_folder_on_a_read_only_filesystem(cli, remote, mounted):
    store = mounted("ro")
    message = refused(cli, remote, "run", cli.session("row"), "--write", "--store", store, code=3)
    assert "read-only" in message
    assert list(store.iterdir()) == []


def test_a_full_disk(cli, remote, mounted):
    store = mounted("size=64k")
    (store / "padding").write_bytes(bytes(64 * 1024))
    message = refused(cli, remote, "run", cli.session("row"), "--write", "--store", store, code=3)
    assert "full" in message
    assert [path.name for path in store.rglob("*.json")] == []


def test_a_file_that_may_not_grow(cli, remote):
    """What a quota or a full disk does in the middle of a write, for those who may not mount."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))

    # Coverage's own file would not fit either, and its complaint would stand on stderr.
    inherited = child_environment(PYTHONDONTWRITEBYTECODE="1")
    environ = {name: value for name, value in inherited.items() if not name.startswith("COVERAGE_")}
    done = subprocess.run(
        [sys.executable, "-m", "writeahead", "run", cli.session("row"), "--write"],
        preexec_fn=limit,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3
    assert done.stderr.startswith("error: ")
    # On another one it would be another session, and this one's plan may be durable.
    assert done.stderr.splitlines()[1:] == [
        "Nothing is lost. Fix that, and run the same command again on the same store."
    ]
    assert remote.requests == []
    assert [name for name in cli.bytes_in_store() if name != ".open/s1"] == []


def test_artifacts_that_cannot_be_used(cli, remote):
    remote.answers = [503, 503]
    cli("run", cli.session("row"), "--write")
    plan = cli.store / "s1/planned-writeback.json"
    good = plan.read_bytes()

    plan.write_bytes(json.dumps(json.loads(good) | {"version": 99}).encode())
    message = refused(cli, remote, "resume", "s1", code=3)
    assert "s1/planned-writeback.json" in message
    assert "newer version" in message
    assert "upgrade" in message
    refused(cli, remote, "run", cli.session("row"), "--write", code=3)

    plan.write_bytes(good[:-20])
    message = refused(cli, remote, "resume", "s1", code=3)
    assert "s1/planned-writeback.json: truncated or altered" in message

    page = cli("show", "s1", "--json")
    assert page.code == 3
    assert page.json["problem"].startswith("s1/planned-writeback.json: truncated")
    assert [entry["event"] for entry in page.json["history"]] == ["ended"]
    assert plan.read_bytes() == good[:-20]


def test_a_session_that_is_not_there(cli, remote):
    for command in (["resume", "nope"], ["show", "nope"], ["unblock", "nope", "--reason", "x"]):
        assert "session nope" in refused(cli, remote, *command, code=3)
    cli("run", cli.session("row"))
    assert "a dry run's plan" in refused(cli, remote, "show", "s1", code=3)


def test_an_adapter_that_is_not_ready_is_blocked_with_every_gap(cli, remote, folder):
    text = (folder / "writeahead.toml").read_text()
    (folder / "writeahead.toml").write_text(text + "ready = false\n")
    done = cli("run", cli.session("row"), "--write", "--json")
    assert (done.code, done.json["block_reason"]) == (1, "not_ready")
    assert done.json["error"] == "CRM_USER is not set; CRM_PASSWORD is not set"
    assert cli.bytes_in_store() == {}
    lines = cli("run", cli.session("row"), "--write").out.splitlines()
    assert lines == [
        "s1  blocked (not_ready)",
        "error: CRM_USER is not set; CRM_PASSWORD is not set",
        "next: fix the problems above, then run it again; nothing was sent",
    ]


SETTINGS = {
    "not TOML": ("store = \n", ["writeahead.toml: not TOML", "line 1"]),
    "unknown key": ("stor = 'x'", ["writeahead.toml: stor: unknown key", "store, adapter, policy, adapters"]),
    "unknown policy": ("[policy]\nattemps = 3", ["policy.attemps: unknown key", "attempts"]),
    "policy of no use": (
        "[policy]\nattempts = 0",
        ["writeahead.toml: policy.attempts", "greater than or equal to 1"],
    ),
    "adapter no table": ("[adapters]\ncrm = 1", ["writeahead.toml: adapters.crm"]),
    "store no text": ("store = 1", ["writeahead.toml: store"]),
    "a secret": (
        "[adapters.dataverse]\nclient_secret = 'planted-secret'",
        ["adapters.dataverse.client_secret", "environment"],
    ),
}


@pytest.mark.parametrize(("text", "named"), SETTINGS.values(), ids=SETTINGS)
def test_bad_settings(cli, remote, folder, text, named):
    (folder / "writeahead.toml").write_text(text)
    message = refused(cli, remote, "list", "--store", "./artifacts")
    for part in named:
        assert part in message
    assert "planted-secret" not in message


def test_bad_flags_and_variables(cli, remote, monkeypatch):
    assert "--attempts: " in refused(cli, remote, "resume", "s1", "--attempts", "0")
    assert "settings gone.toml: there is no such file" in refused(
        cli, remote, "list", "--config", "gone.toml"
    )
    assert "--state" in refused(cli, remote, "list", "--state", "zork")
    assert "--journal" in refused(cli, remote, "resume", "s1", "--journal", "never")
    assert "--waits: " in refused(cli, remote, "resume", "s1", "--waits", "1,five")
    assert "--retry-after-max: " in refused(cli, remote, "resume", "s1", "--retry-after-max", "-1")
    assert "zork" in refused(cli, remote, "zork")
    assert "--zork" in refused(cli, remote, "list", "--zork")
    assert "SESSION_ID" in refused(cli, remote, "show")
    assert "--reason" in refused(cli, remote, "unblock", "s1")
    assert "--reason" in refused(cli, remote, "unblock", "s1", "--reason", " ")
    monkeypatch.setenv("WRITEAHEAD_LEASE", "soon")
    assert "WRITEAHEAD_LEASE: " in refused(cli, remote, "resume", "s1")


def test_an_adapters_bug_is_one_line_without_its_message(cli, remote):
    remote.answers = [418]
    done = cli("run", cli.session("row"), "--write", "--quiet")
    assert done.code == 3
    assert done.err.startswith("error: unexpected RuntimeError")
    assert len(done.err.splitlines()) == 2
    assert "planted-secret" not in done.err + done.out
    assert cli("resume", "s1").code == 0


def test_a_terminal_cannot_be_steered_by_a_message(cli, remote):
    message = cli("run", "\x1b[31mred.json").err
    assert "[31mred.json" in message
    assert "\x1b" not in message
    remote.answers = [400]
    cli("run", cli.session("row"), "--write")
    cli("unblock", "s1", "--reason", "\x1b[31mred")
    shown = cli("show", "s1").out
    assert "[31mred" in shown
    assert "\x1b" not in shown


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["unblock", "s1", "--reason", "x", "--assume", "applied", "--store", "st"], "--assume"),
        (["unblock", "s1", "--reason", "x", "--assume"], "--assume"),
    ],
)
def test_an_assumption_without_an_operation_is_named(cli, arguments, names):
    done = cli(*arguments)
    assert done.code == 2
    assert names in done.err
