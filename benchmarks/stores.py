"""The cost of a put and a get through s3fs, obstore and the bare clients: CPU and wall time.

    python benchmarks/stores.py [--rounds N] [--size BYTES] [--verbs VERB ...]

The server is moto's, in a process of its own, so that its CPU is not counted. So is each client:
none pays for what another leaves in memory or in the interpreter's caches. The clients take turns,
in small groups and in random order, so that other load affects all of them alike. The ratios hold
on other machines, too; the milliseconds are this machine's. A second pass counts requests, through
a proxy.

What a put costs beyond s3fs's own call is the ratio of "s3fs" to one of these:

- "s3fs bare": one `call_s3("put_object", ...)`, with a store's settings for retries and checksums.
  `pipe_file` is this call as well, and a look at its cache.
- "s3fs alike": the same with our request's headers, which is Content-MD5 more and
  "Expect: 100-continue" less: what differs is Python alone.
"""

import argparse
import base64
import hashlib
import multiprocessing
import os
import random
import statistics
import sys
import time
from collections import defaultdict
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import boto3
from aiobotocore.httpsession import AIOHTTPSession
from botocore.config import Config
from botocore.exceptions import ClientError
from rich.console import Console
from rich.table import Table
from s3fs import S3FileSystem

from tests.support.s3_proxy import S3Proxy
from tests.support.s3_server import RawBucket, running_server
from writeahead.errors import AlreadyExists
from writeahead.stores.registry import open_store

GROUP = 10


class Bare:
    """boto3 with its own retries off: what the same requests cost at least in Python."""

    def __init__(self, endpoint, bucket):
        self.client = boto3.client(
            "s3", endpoint_url=endpoint, config=Config(retries={"total_max_attempts": 1, "mode": "standard"})
        )
        self.bucket = bucket

    def put(self, key, data):
        self.client.put_object(Bucket=self.bucket, Key=key, Body=data)

    def create(self, key, data):
        self.client.put_object(Bucket=self.bucket, Key=key, Body=data, IfNoneMatch="*")

    def create_again(self, key, data):
        try:
            self.create(key, data)
        except ClientError:
            return
        raise AssertionError

    def get(self, key, data):
        assert self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read() == data

    def list(self, prefix, _):
        self.client.list_objects_v2(Bucket=self.bucket, Prefix=prefix)


class WithoutExpect(AIOHTTPSession):
    async def send(self, request):
        request.headers.pop("Expect", None)
        return await super().send(request)


class BareS3fs:
    """s3fs's own call; it sends what the store sends if it is `alike`."""

    def __init__(self, endpoint, bucket, *, alike):
        self.client = S3FileSystem(
            skip_instance_cache=True,
            use_listings_cache=False,
            endpoint_url=endpoint,
            config_kwargs={
                "retries": {"total_max_attempts": 1, "mode": "standard"},
                "connect_timeout": 5.0,
                "read_timeout": 20.0,
                "request_checksum_calculation": "when_required",
                "response_checksum_validation": "when_required",
                **({"http_session_cls": WithoutExpect} if alike else {}),
            },
        )
        self.client.retries = 1
        self.bucket, self.alike = bucket, alike

    def put(self, key, data, **condition):
        if self.alike:
            digest = hashlib.md5(data, usedforsecurity=False).digest()
            condition["ContentMD5"] = base64.b64encode(digest).decode()
        self.client.call_s3("put_object", Bucket=self.bucket, Key=key, Body=data, **condition)

    def create(self, key, data):
        self.put(key, data, IfNoneMatch="*")


class Ours:
    def __init__(self, endpoint, bucket, client):
        self.store = open_store(f"s3://{bucket}?client={client}&endpoint_url={endpoint}")

    def put(self, key, data):
        self.store.put(key, data)

    def create(self, key, data):
        self.store.put(key, data, if_absent=True)

    def create_again(self, key, data):
        try:
            self.store.put(key, data + b"!", if_absent=True)
        except AlreadyExists:
            return
        raise AssertionError

    def get(self, key, data):
        assert self.store.get(key).data == data

    def list(self, prefix, _):
        assert list(self.store.list(prefix))


CLIENTS = {
    "boto3": Bare,
    "s3fs bare": partial(BareS3fs, alike=False),
    "s3fs alike": partial(BareS3fs, alike=True),
    "s3fs": partial(Ours, client="s3fs"),
    "obstore": partial(Ours, client="obstore"),
}
BASES = ("boto3", "s3fs bare", "s3fs alike")
VERBS = ("put", "create", "create_again", "get", "list")


def can(name, verb):
    """Whether a client is measured at this: s3fs's own call is, at what its layer may add to."""
    return not name.startswith("s3fs ") or verb in ("put", "create")


def work(name, endpoint, bucket, data, pipe):
    """One client's process: for a verb and keys, the CPU and wall seconds that they took."""
    client = CLIENTS[name](endpoint, bucket)
    while order := pipe.recv():
        verb, keys = order
        call = getattr(client, verb)
        cpu, wall = time.process_time(), time.perf_counter()
        for key in keys:
            call(key, data)
        pipe.send((time.process_time() - cpu, time.perf_counter() - wall))


def measure(endpoint, bucket, rounds, data, verbs):
    """CPU and wall seconds of one call, by verb and client, one figure a group."""
    found, spawned = defaultdict(list), multiprocessing.get_context("spawn")
    pipes = {}
    for name in CLIENTS:
        pipes[name], theirs = spawned.Pipe()
        spawned.Process(target=work, args=(name, endpoint, bucket, data, theirs), daemon=True).start()
    for number in range(-1, rounds):
        # No client is always first, nor always behind the same one.
        for name in random.sample(list(CLIENTS), len(CLIENTS)):
            for verb in VERBS:
                # A create makes what the verbs after it read.
                if not can(name, verb) or verb not in {*verbs, "create"}:
                    continue
                made = "put" if verb == "put" else "create"
                keys = [f"{name}/{made}-{number}/{index}".replace(" ", "-") for index in range(GROUP)]
                pipes[name].send((verb, keys))
                cpu, wall = pipes[name].recv()
                if number >= 0:  # the round before the first makes connections
                    found[verb, name].append((cpu / GROUP, wall / GROUP))
    for pipe in pipes.values():
        pipe.send(None)
    return found


def requests(server, bucket, data, verbs):
    """What each verb sends, by client."""
    with S3Proxy(server) as proxy:
        counted = {}
        for name, make in CLIENTS.items():
            client = make(proxy.url, bucket)
            for verb in VERBS:
                if not can(name, verb) or verb not in {*verbs, "create"}:
                    continue
                proxy.clear()
                key = f"requests/{name}/{'put' if verb == 'put' else 'create'}".replace(" ", "-")
                getattr(client, verb)(key, data)
                counted[verb, name] = " ".join(
                    f"{n} {v}" for v, n in sorted(proxy.count().items(), reverse=True)
                )
        return counted


def ratio(mine, base, which):
    """The median, round by round, of one client's groups to another's; empty without those."""
    return (
        f"{statistics.median(m[which] / b[which] for m, b in zip(mine, base, strict=True)):.2f}"
        if base
        else ""
    )


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=30)
    arguments.add_argument("--size", type=int, default=2_000, help="bytes of one artifact")
    arguments.add_argument("--verbs", nargs="+", choices=VERBS, default=VERBS)
    given = arguments.parse_args()
    os.environ.update(AWS_ACCESS_KEY_ID="testing", AWS_SECRET_ACCESS_KEY="testing")
    os.environ.update(AWS_DEFAULT_REGION="us-east-1", AWS_EC2_METADATA_DISABLED="true")
    os.environ.update(AWS_CONFIG_FILE="/dev/null", AWS_SHARED_CREDENTIALS_FILE="/dev/null")
    data = os.urandom(given.size)
    with running_server() as server:
        bucket = RawBucket(server, "bench")
        bucket.create()
        found = measure(server, bucket.name, given.rounds, data, given.verbs)
        counted = requests(server, bucket.name, data, given.verbs)
    table = Table(title=f"one call, {given.size} bytes: median of {given.rounds} groups of {GROUP}")
    for column in (
        "verb",
        "client",
        "CPU ms",
        *(f"/ {base}" for base in BASES),
        "wall ms",
        "/ boto3",
        "requests",
    ):
        table.add_column(column, justify="left" if column in ("verb", "client", "requests") else "right")
    for verb in given.verbs:
        for name in CLIENTS:
            if not can(name, verb):
                continue
            mine = found[verb, name]
            cpu, wall = (f"{statistics.median(each[which] for each in mine) * 1000:.2f}" for which in (0, 1))
            ratios = (ratio(mine, found.get((verb, base)), 0) for base in BASES)
            against = ratio(mine, found[verb, "boto3"], 1)
            table.add_row(verb.replace("_", " "), name, cpu, *ratios, wall, against, counted[verb, name])
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
