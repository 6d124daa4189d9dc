"""Every exception of a client becomes a StoreError; pickles, credentials and variables."""

import asyncio
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from fsspec.asyn import get_loop

from tests.support.s3_proxy import answer
from writeahead.errors import AccessDenied, InvalidInput, StoreError, Unsupported
from writeahead.stores import s3
from writeahead.stores.local import LocalStore
from writeahead.stores.memory import MemoryStore
from writeahead.stores.registry import open_store
from writeahead.testing import http_proxy

pytestmark = pytest.mark.usefixtures("short_waits")


def signed(request) -> str:
    """The signature of a request; the clients write the header's name in different ways."""
    return {name.lower(): value for name, value in request.headers.items()}["authorization"]


def test_the_thread_of_the_clients_loop_is_refused(s3_proxy, s3_bucket):
    """gevent and eventlet make one thread of all, so that each call comes from the loop's own."""
    store = open_store(f"s3://{s3_bucket.name}?endpoint_url={s3_proxy.url}")
    calls = (lambda: store.put("a", b"1", if_absent=True), lambda: store.get("a"), lambda: list(store.list()))

    async def on_the_loop():
        for call in calls:
            with pytest.raises(Unsupported, match="gevent or eventlet"):
                call()

    asyncio.run_coroutine_threadsafe(on_the_loop(), get_loop()).result(timeout=30)
    assert s3_proxy.requests == []


def test_any_exception_of_the_client_is_a_store_error(s3_proxy, s3_bucket, monkeypatch):
    store = open_store(f"s3://{s3_bucket.name}?endpoint_url={s3_proxy.url}")
    store.put("warm", b"1")
    ((client,),) = store._clients.values()

    async def fail(*_, **__):
        raise AttributeError("planted secret")

    monkeypatch.setattr(client, "_call_s3", fail)
    with pytest.raises(StoreError) as caught:
        store.put("a", b"1")
    assert "planted" not in str(caught.value)


def test_any_exception_of_obstore_is_a_store_error(s3_proxy, s3_bucket, monkeypatch):
    store = open_store(f"s3://{s3_bucket.name}?client=obstore&endpoint_url={s3_proxy.url}")

    def fail(*_, **__):
        raise RuntimeError("planted secret")

    for verb in ("put", "get", "head", "list", "delete"):
        monkeypatch.setattr(f"obstore.{verb}", fail)
    for call in (
        lambda: store.put("a", b"1"),
        lambda: store.get("a"),
        lambda: store.head("a"),
        lambda: list(store.list()),
        lambda: store.delete("a"),
    ):
        with pytest.raises(StoreError) as caught:
            call()
        assert "planted" not in str(caught.value)


DOUBLED = """
import sys
from writeahead.errors import StoreError
from writeahead.stores import remote
from writeahead.stores.registry import open_store
remote.WAIT_INITIAL = 0.001
store = open_store(sys.argv[1])
for call in (lambda: store.get("a"), lambda: store.put("a", b"1"), lambda: list(store.list())):
    try:
        call()
    except StoreError as error:
        print(type(error).__name__)
    else:
        print("ok")
"""


def test_a_header_that_comes_twice_in_development_mode(client, s3_proxy, s3_bucket):
    """aiohttp is strict there, by an exception that is not one of its client's."""
    # A header's value can't hold a line's end, but a name can stand in another case beside it.
    headers = {"ETag": '"1"', "etag": '"1"', "Content-Type": "a/b", "content-type": "c/d", "Server": "x"}
    s3_proxy.fault(lambda _: True, http_proxy.answer(200, headers), times=100)
    url = f"s3://{s3_bucket.name}?client={client}&endpoint_url={s3_proxy.url}"
    ended = subprocess.run(
        [sys.executable, "-X", "dev", "-c", DOUBLED, url],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert len(ended.stdout.splitlines()) == 3


# Folders.


def test_a_path_object_opens_a_folder(tmp_path):
    store = open_store(tmp_path / "x y")
    assert store.name == (tmp_path / "x y").as_uri()
    store.put("a", b"1")
    assert (tmp_path / "x y" / "a").read_bytes() == b"1"


@pytest.mark.parametrize("place", ["s3:/bucket", "~nosuchuser/x", os.fsdecode(b"\xff%41")])
def test_a_path_object_is_never_a_url(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = open_store(Path(place))
    store.put("a", b"1")
    assert (tmp_path / place / "a").read_bytes() == b"1"


def test_a_path_with_a_null_character_is_refused():
    with pytest.raises(InvalidInput, match="null character"):
        open_store(Path("a\0b"))


@pytest.mark.parametrize("url", ["~nosuchuser/x", "~nosuchuser"])
def test_a_user_who_is_not_there_is_said(url):
    with pytest.raises(InvalidInput, match="no such user"):
        open_store(url)


GONE = """
import os, sys, tempfile
from writeahead.errors import InvalidInput
from writeahead.stores.local import LocalStore
from writeahead.stores.registry import open_store
folder = tempfile.mkdtemp()
os.chdir(folder)
os.rmdir(folder)
for call in (lambda: open_store("./x"), lambda: open_store("x"), lambda: LocalStore("x")):
    try:
        call()
    except InvalidInput as error:
        print(error)
open_store("/absolute")
"""


def test_a_working_directory_that_is_gone_is_said():
    ended = subprocess.run([sys.executable, "-c", GONE], capture_output=True, text=True, check=True)
    lines = ended.stdout.splitlines()
    assert len(lines) == 3
    assert all("the working directory is gone" in line for line in lines)


# Pickles.


@pytest.mark.parametrize("used", [False, True], ids=["fresh", "used"])
def test_a_store_of_a_bucket_is_pickled(client, s3_proxy, s3_bucket, used, tmp_path, monkeypatch):  # noqa: PLR0917 - fixtures
    config = tmp_path / "config"
    config.write_text(
        "[profile deployer]\nregion = eu-north-1\n"
        "aws_access_key_id = AKIADEPLOYER\naws_secret_access_key = planted\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    url = f"s3://{s3_bucket.name}/p?client={client}&endpoint_url={s3_proxy.url}&profile=deployer&tags=a=b"
    store = open_store(url)
    if used:
        store.put("used", b"1")
    data = pickle.dumps(store)
    assert b"planted" not in data
    other = pickle.loads(data)
    assert other.name == store.name
    other.put("a", b"1")
    assert s3_bucket.read("p/a") == b"1"
    assert "AKIADEPLOYER/" in signed(s3_proxy.requests[-1])
    store.put("b", b"1")


@pytest.mark.parametrize("url", ["gs://bucket?anonymous=true", "az://box?account=me&anonymous=true"])
def test_a_store_of_another_service_is_pickled(url):
    assert pickle.loads(pickle.dumps(open_store(url))).name == open_store(url).name


def test_a_folder_and_a_named_memory_store_are_pickled(tmp_path):
    store = LocalStore(tmp_path)
    store.put("a", b"1")
    assert pickle.loads(pickle.dumps(store)).get("a").data == b"1"
    named = MemoryStore.named("client-errors-test")
    assert pickle.loads(pickle.dumps(named)) is named


# Credentials.


PROFILE = "[profile ours]\nregion = us-east-1\naws_access_key_id = %s\naws_secret_access_key = planted\n"


def test_rotated_credentials_are_read_anew(client, s3_proxy, s3_bucket, tmp_path, monkeypatch):
    """As soon as the old ones are refused, and in the same call."""
    config = tmp_path / "config"
    config.write_text(PROFILE % "AKIAOLD")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    store = open_store(f"s3://{s3_bucket.name}?client={client}&endpoint_url={s3_proxy.url}&profile=ours")
    store.put("a", b"1")
    config.write_text(PROFILE % "AKIANEW")
    s3_proxy.clear()
    s3_proxy.fault(
        lambda request: "AKIAOLD" in signed(request),
        answer(403, "InvalidAccessKeyId"),
        times=99,
    )
    store.put("a", b"2", if_absent=False)
    assert s3_bucket.read("a") == b"2"
    assert [request.status for request in s3_proxy.requests] == [403, 200]


def test_credentials_that_are_still_the_same_are_refused_once(client, s3_proxy, s3_bucket):
    store = open_store(f"s3://{s3_bucket.name}?client={client}&endpoint_url={s3_proxy.url}")
    s3_proxy.fault("PUT", answer(403, "AccessDenied"), times=99)
    for count in (1, 2):
        with pytest.raises(AccessDenied, match="s3:PutObject"):
            store.put("a", b"1")
        assert s3_proxy.count() == {"PUT": count}


def test_other_credentials_that_lack_the_same_permission(s3_proxy, s3_bucket, tmp_path, monkeypatch):
    """As a role's, which are others each time: they must not cost a client for each refusal."""
    asked = tmp_path / "asked"
    program = tmp_path / "keys"
    program.write_text(
        f'#!/bin/sh\necho >> {asked}\nprintf \'{{"Version": 1, "AccessKeyId": "AKIA%s", '
        f'"SecretAccessKey": "planted"}}\' $(wc -l < {asked})\n'
    )
    program.chmod(0o700)
    (tmp_path / "config").write_text(f"[profile role]\nregion = us-east-1\ncredential_process = {program}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    store = open_store(f"s3://{s3_bucket.name}?endpoint_url={s3_proxy.url}&profile=role")
    s3_proxy.fault("DELETE", answer(403, "AccessDenied"), times=99)
    for count in (2, 3, 4):
        with pytest.raises(AccessDenied, match="s3:DeleteObject"):
            store.delete("a")
        assert s3_proxy.count() == {"DELETE": count}
    assert asked.read_text() == "\n\n"


def test_of_replaced_clients_one_is_kept(s3_proxy, s3_bucket, monkeypatch):
    """For threads that may be using it; older ones are closed."""
    monkeypatch.setattr(s3, "_SETUP_LIMIT", -s3._REQUEST_LIMIT)
    store = open_store(f"s3://{s3_bucket.name}?endpoint_url={s3_proxy.url}")
    closed = []
    monkeypatch.setattr(s3, "close", lambda _pid, client: closed.append(client))
    monkeypatch.setattr(store, "_keys", id)
    made = [store._client()]
    for _ in range(3):
        assert store._renew()
        made.append(store._client())
    assert closed == made[:2]
    assert len(set(map(id, made))) == 4


def test_rotated_variables_are_read_anew(client, s3_proxy, s3_bucket, monkeypatch):
    store = open_store(f"s3://{s3_bucket.name}?client={client}&endpoint_url={s3_proxy.url}")
    store.put("a", b"1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIANEW")
    s3_proxy.fault(
        lambda request: "AKIANEW" not in signed(request),
        answer(400, "ExpiredToken"),
        times=99,
    )
    assert store.get("a").data == b"1"


@pytest.mark.parametrize("options", ["profile=ours", "client=obstore&profile=ours"])
def test_a_profile_that_has_gone_since(options, tmp_path, monkeypatch):
    config = tmp_path / "config"
    config.write_text(PROFILE % "AKIAOLD")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    store = open_store(f"s3://bucket?{options}&endpoint_url=http://127.0.0.1:1")
    config.write_text("")
    with pytest.raises(AccessDenied, match="the profile is not in the AWS configuration files"):
        store.put("a", b"1")


def test_google_s_credentials_that_have_gone_since(tmp_path, monkeypatch):
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    forms = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    account = {
        "client_email": "a@b",
        "private_key": key.private_bytes(*forms).decode(),
        "private_key_id": "1",
    }
    file = tmp_path / "planted.json"
    file.write_text(json.dumps({"type": "service_account", **account}))
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT", str(file))
    store = open_store("gs://bucket?endpoint_url=http://127.0.0.1:1")
    file.unlink()
    with pytest.raises(AccessDenied) as caught:
        store.put("a", b"1")
    assert "planted" not in str(caught.value)


# One set of variables.


def test_the_endpoint_of_the_environment(client, s3_proxy, s3_bucket, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_proxy.url)
    open_store(f"s3://{s3_bucket.name}?client={client}").put("a", b"1")
    assert s3_bucket.read("a") == b"1"
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_proxy.url)
    open_store(f"s3://{s3_bucket.name}?client={client}").put("b", b"1")
    assert s3_bucket.read("b") == b"1"


def test_the_endpoint_of_a_profile(client, s3_proxy, s3_bucket, monkeypatch, tmp_path):
    config = tmp_path / "config"
    config.write_text(PROFILE % "AKIAOURS" + f"endpoint_url = {s3_proxy.url}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    open_store(f"s3://{s3_bucket.name}?client={client}&profile=ours").put("a", b"1")
    monkeypatch.setenv("AWS_PROFILE", "ours")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    open_store(f"s3://{s3_bucket.name}?client={client}").put("b", b"1")
    assert s3_bucket.keys() == ["a", "b"]


@pytest.mark.parametrize("variable", ["AWS_REGION", "AWS_DEFAULT_REGION"])
def test_the_region_of_the_environment(client, s3_proxy, s3_bucket, monkeypatch, variable):
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.setenv(variable, "eu-north-1")
    open_store(f"s3://{s3_bucket.name}?client={client}&endpoint_url={s3_proxy.url}").put("a", b"1")
    assert "/eu-north-1/s3/" in signed(s3_proxy.requests[0])


def test_a_bucket_that_locks_its_objects_gets_a_checksum(client, s3_proxy, s3_bucket):
    """S3 refuses a put without one if the bucket has a default retention; so does this double."""
    digests = {"content-md5", "x-amz-checksum-sha256"}
    s3_proxy.fault(
        lambda request: request.verb == "PUT" and not digests & {name.lower() for name in request.headers},
        answer(400, "InvalidRequest"),
        times=99,
    )
    store = open_store(f"s3://{s3_bucket.name}?client={client}&endpoint_url={s3_proxy.url}")
    store.put("a", b"1", if_absent=True)
    store.put("a", b"2")
    assert s3_bucket.read("a") == b"2"
