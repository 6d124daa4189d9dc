"""What others can see or change: logs, plain http, links and modes of folders, odd keys."""

import logging
import os
import stat

import pytest

from tests.support.s3_proxy import answer
from writeahead.errors import StoreError, Unsupported
from writeahead.stores import durable
from writeahead.stores.client_logs import quietly
from writeahead.stores.local import LocalStore
from writeahead.stores.registry import open_store

pytestmark = pytest.mark.usefixtures("short_waits")

TOKEN = "planted-session-token"


def test_no_log_holds_the_session_token(client, s3_proxy, s3_bucket, monkeypatch, caplog):
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    caplog.set_level(logging.DEBUG)
    store = open_store(f"s3://{s3_bucket.name}?client={client}&endpoint_url={s3_proxy.url}")
    for _ in range(2):
        store.put("a", b"planted payload")
        store.get("a")
        assert [info.key for info in store.list()] == ["a"]
        store.delete("a")
    s3_proxy.fault("PUT", answer(403, "ExpiredToken"), times=9)
    with pytest.raises(StoreError):
        store.put("a", b"planted payload")
    assert any(TOKEN in str(request.headers) for request in s3_proxy.requests)
    assert "planted" not in caplog.text
    # Logs of the same libraries about requests of others are as they were.
    logging.getLogger("botocore.auth").debug("a request of the host's own")
    assert "a request of the host's own" in caplog.text


def test_a_logger_that_comes_between_two_requests_is_as_silent(caplog, monkeypatch):
    """Client libraries load parts of themselves at the first request that needs them."""
    monkeypatch.setattr(logging.root.manager, "loggerDict", dict(logging.root.manager.loggerDict))
    caplog.set_level(logging.DEBUG)
    names = ("botocore.first", "botocore.second", "botocore.third.below", "botocore.third")
    for name in names:
        logger = logging.getLogger(name)
        with quietly():
            logger.debug("planted")
        logger.debug("%s of the host's own", name)
        # Next time, there are as many loggers, and not the same.
        del logging.root.manager.loggerDict[name]
    assert "planted" not in caplog.text
    assert caplog.text.count("of the host's own") == len(names)


@pytest.mark.parametrize(
    ("endpoint", "told"),
    [
        ("http://store.example.invalid:9000", True),
        ("http://localhost:1", False),
        ("http://127.0.0.1:1", False),
        ("https://127.0.0.1:1", False),
    ],
)
def test_plain_http_to_another_host_is_said_once(client, s3_server, caplog, endpoint, told):
    store = open_store(f"s3://bucket?client={client}&endpoint_url={endpoint}&connect_timeout=1")
    for _ in range(2):
        with pytest.raises(StoreError):
            store.get("a")
    said = [record.message for record in caplog.records if "plain http" in record.message]
    assert len(said) == told
    assert all(line.startswith("store s3://bucket: plain http to another host") for line in said)


# Folders.


def test_a_sticky_bit_of_another_folder_stays(tmp_path):
    """A folder that was there already, whatever its mode: only a new one of ours loses it."""
    root = tmp_path / "root"
    root.mkdir()
    root.chmod(0o1777)
    durable.make_folder(root)
    LocalStore(root).put("a", b"1")
    assert stat.S_IMODE(root.stat().st_mode) == 0o1777


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's folder")
def test_a_folder_of_another_user_keeps_its_mode(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    root.chmod(0o1700)
    os.chown(root, 12345, 12345)
    LocalStore(root).put("a", b"1")
    assert stat.S_IMODE(root.stat().st_mode) == 0o1700


def test_a_link_that_comes_to_the_root_s_name_is_not_followed_when_it_is_made(tmp_path, monkeypatch):
    """Another user is faster; the link leads to a folder that is not the store's."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    elsewhere.chmod(0o1700)
    root = tmp_path / "root"
    make = type(root).mkdir

    def slower(self, *args, **kwargs):
        if self == root and not root.is_symlink():
            root.symlink_to(elsewhere)
        return make(self, *args, **kwargs)

    monkeypatch.setattr(type(root), "mkdir", slower)
    with pytest.raises(StoreError):
        LocalStore(root).put("a", b"1")
    assert stat.S_IMODE(elsewhere.stat().st_mode) == 0o1700
    assert list(elsewhere.iterdir()) == []


def test_a_root_that_is_a_link_is_used(tmp_path):
    target = tmp_path / "target"
    LocalStore(target).put("a", b"1")
    target.chmod(0o1700)  # as if its maker had been killed
    (tmp_path / "root").symlink_to(target)
    LocalStore(tmp_path / "root").put("b", b"1")
    assert sorted(path.name for path in target.iterdir()) == ["a", "b"]
    assert stat.S_IMODE(target.stat().st_mode) == 0o700


# Keys.


@pytest.mark.parametrize("key", ["../up", "a/../b", "a/./b", "..", ".", "x" * 901, "y" * 256])
def test_what_is_no_key_of_ours_is_not_listed(s3_proxy, s3_bucket, key):
    s3_bucket.write("kept", b"1")
    page = f"""<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
<Name>b</Name><IsTruncated>false</IsTruncated><Contents><Key>{key}</Key><Size>1</Size></Contents>
<Contents><Key>kept</Key><Size>1</Size></Contents></ListBucketResult>"""
    s3_proxy.fault("LIST", answer(200, body=page.encode()))
    store = open_store(f"s3://{s3_bucket.name}?endpoint_url={s3_proxy.url}")
    assert [info.key for info in store.list()] == ["kept"]


def test_a_listing_out_of_order_is_refused(client, s3_proxy, s3_bucket):
    """SeaweedFS lists a folder's objects before a name that sorts before its slash."""
    item = (
        "<Contents><Key>{}</Key><Size>1</Size><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
        "<ETag>1</ETag></Contents>"
    )
    page = (
        '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        "<Name>b</Name><Prefix/><MaxKeys>1000</MaxKeys><KeyCount>2</KeyCount><IsTruncated>false</IsTruncated>"
        + item.format("a/b")
        + item.format("a-b")
        + "</ListBucketResult>"
    )
    s3_proxy.fault("LIST", answer(200, body=page.encode()))
    store = open_store(f"s3://{s3_bucket.name}?client={client}&endpoint_url={s3_proxy.url}")
    with pytest.raises(Unsupported, match="does not list in the order of keys"):
        list(store.list())
