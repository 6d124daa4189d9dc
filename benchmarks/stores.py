"""The cost of a put and a get through s3fs, obstore and bare boto3: CPU and wall time, in one run.

    python benchmarks/stores.py [--rounds N] [--size BYTES]

The server is moto's, in a process of its own, so that its CPU is not counted. The clients take
turns, in small groups, so that other load affects all of them alike. The ratios to boto3 hold on
other machines, too; the milliseconds are this machine's. A second pass counts requests, through a
proxy.
"""

import argparse
import os
import statistics
import sys
import time
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from rich.console import Console
from rich.table import Table

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


def contenders(endpoint, bucket):
    return {
        "boto3": Bare(endpoint, bucket),
        "s3fs": Ours(endpoint, bucket, "s3fs"),
        "obstore": Ours(endpoint, bucket, "obstore"),
    }


VERBS = ("put", "create", "create_again", "get", "list")


def measure(endpoint, bucket, rounds, data):
    """CPU and wall seconds of one call, by verb and client, one figure a group."""
    found = defaultdict(list)
    clients = contenders(endpoint, bucket)
    for number in range(-1, rounds):
        names = list(clients)
        # No client is always first.
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            for verb in VERBS:
                call = getattr(clients[name], verb)
                keys = [f"{name}/{verb}-{number}/{index}" for index in range(GROUP)]
                if verb in ("get", "create_again", "list"):
                    keys = [f"{name}/create-{number}/{index}" for index in range(GROUP)]
                cpu, wall = time.process_time(), time.perf_counter()
                for key in keys:
                    call(key, data)
                cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
                if number >= 0:  # the round before the first makes connections
                    found[verb, name].append((cpu / GROUP, wall / GROUP))
    return found


def requests(server, bucket, data):
    with S3Proxy(server) as proxy:
        counted = {}
        for name, client in contenders(proxy.url, bucket).items():
            for verb in VERBS:
                proxy.clear()
                getattr(client, verb)(f"requests/{name}/{'put' if verb == 'put' else 'create'}", data)
                counted[verb, name] = " ".join(
                    f"{n} {v}" for v, n in sorted(proxy.count().items(), reverse=True)
                )
        return counted


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=30)
    arguments.add_argument("--size", type=int, default=2_000, help="bytes of one artifact")
    given = arguments.parse_args()
    os.environ.update(AWS_ACCESS_KEY_ID="testing", AWS_SECRET_ACCESS_KEY="testing")
    os.environ.update(AWS_DEFAULT_REGION="us-east-1", AWS_EC2_METADATA_DISABLED="true")
    os.environ.update(AWS_CONFIG_FILE="/dev/null", AWS_SHARED_CREDENTIALS_FILE="/dev/null")
    data = os.urandom(given.size)
    with running_server() as server:
        bucket = RawBucket(server, "bench")
        bucket.create()
        found = measure(server, bucket.name, given.rounds, data)
        counted = requests(server, bucket.name, data)
    table = Table(title=f"one call, {given.size} bytes: median of {given.rounds} groups of {GROUP}")
    for column in ("verb", "client", "CPU ms", "CPU / boto3", "wall ms", "wall / boto3", "requests"):
        table.add_column(column, justify="left" if column in ("verb", "client", "requests") else "right")
    for verb in VERBS:
        for name in ("boto3", "s3fs", "obstore"):
            figures = found[verb, name]
            bare = found[verb, "boto3"]
            cells = []
            for which in (0, 1):
                ratio = statistics.median(
                    mine[which] / his[which] for mine, his in zip(figures, bare, strict=True)
                )
                cells += [f"{statistics.median(f[which] for f in figures) * 1000:.2f}", f"{ratio:.2f}"]
            table.add_row(verb.replace("_", " "), name, *cells, counted[verb, name])
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
