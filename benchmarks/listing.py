"""Finding, listing and pruning sessions among many: time, CPU, memory and requests.

    python benchmarks/listing.py [--sessions N] [--open N] [--prune N] [--folder FOLDER]
        [--stores NAME ...]

The stores are one in memory, one in a folder, and a bucket through s3fs and through obstore. What
each is measured at:

- find: `find_sessions("open")`, which starts from the markers and reads each session.
- list: `find_sessions()`, all of them.
- prune: `prune` of others, each completed long ago.

Each step has a process of its own. Beside a list stand bare calls, as a lower bound:

- folder: `os.scandir` of each folder and `os.stat` of each file, in order; `find -type f` as well.
- bucket: boto3's paginator of ListObjectsV2, which is how `aws s3 ls` lists.

The bucket is made up by a server on loopback, page by page: see many_sessions.py. So the figures
are those of the client: its parser and all that is above it. A real bucket adds its own time for
each request, which the number of requests tells. Files are made by bare calls, and read again at
once, so that the names are in the system's memory: no disk is measured, but for the syncs of prune.

Memory is the peak of the process (its resident set) beyond what it had before.
"""

import argparse
import gc
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path

import boto3
from many_sessions import Sessions, in_folder, in_memory
from session import filesystem

from writeahead import find_sessions, open_store, prune

HERE = Path(__file__).parent
STORES = ("memory", "folder", "s3fs", "obstore")
PACKAGES = ("writeahead", "aiobotocore", "botocore", "obstore")
AWS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}


# What is measured, each in a process of its own.


def find(store) -> int:
    return sum(1 for _ in find_sessions(store, "open"))


def listed(store) -> int:
    return sum(1 for _ in find_sessions(store))


def pruned(store) -> int:
    found = 0
    for result in prune(store, timedelta(days=90), dry_run=False):
        assert not result.error, result
        found += 1
    return found


def scandir(root: str) -> int:
    """Names and sizes of all files, in order, as a listing needs them."""
    found = 0
    with os.scandir(root) as entries:
        names = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
    for name, is_folder in names:
        path = f"{root}/{name}"
        if is_folder:
            found += scandir(path)
        else:
            os.stat(path, follow_symlinks=False)
            found += 1
    return found


def gnu_find(root: str) -> int:
    with subprocess.Popen(["find", root, "-type", "f"], stdout=subprocess.PIPE) as process:
        return sum(1 for _ in process.stdout)


def paginated(client) -> int:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket="bench")
    return sum(len(page["Contents"]) for page in pages)


def step(given: argparse.Namespace) -> None:
    """Do one thing, and print what it cost."""
    if given.step == "boto3":
        client = boto3.client("s3", endpoint_url=given.url)
        client.list_objects_v2(Bucket="bench", Prefix="none")
        print(json.dumps(cost(lambda: paginated(client))))
        return
    if given.step in ("scandir", "find -type f"):
        call = scandir if given.step == "scandir" else gnu_find
        print(json.dumps(cost(lambda: call(str(given.folder)))))
        return
    sessions = Sessions(given.sessions, given.open)
    kind = given.stores[0]
    urls = {"folder": str(given.folder)}
    url = urls.get(kind, f"s3://bench?client={kind}&endpoint_url={given.url}")
    store = in_memory(sessions, whole=given.step == "prune") if kind == "memory" else open_store(url)
    next(store.list("none"), None)  # connects
    work = {"find": find, "list": listed, "prune": pruned}[given.step]
    print(json.dumps(cost(lambda: work(store))))


def cost(call: Callable[[], int]) -> dict[str, float]:
    """Its result, and the seconds, CPU seconds (with children) and MiB that it took."""
    gc.collect()
    memory, begin = peak(), time.perf_counter()
    cpu = cpu_seconds()
    found = call()
    return {
        "found": found,
        "wall": time.perf_counter() - begin,
        "cpu": cpu_seconds() - cpu,
        "memory": peak() - memory,
    }


def cpu_seconds() -> float:
    mine, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return mine.ru_utime + mine.ru_stime + children.ru_utime + children.ru_stime


def peak() -> float:
    """The most MiB that this process ever had."""
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size / (2**20 if sys.platform == "darwin" else 2**10)


# The processes, and the bucket.


@contextmanager
def bucket(sessions: Sessions) -> Iterator[str]:
    command = [sys.executable, str(HERE / "many_sessions.py"), str(sessions.count), str(sessions.opened)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        yield f"http://127.0.0.1:{server.stdout.readline().strip()}"
        server.stdin.close()


def requests(url: str) -> str:
    """What the bucket was asked for since it was last asked for this."""
    with urllib.request.urlopen(f"{url}/counts") as answer:
        counts = json.load(answer)
    return ", ".join(f"{number:,} {verb}" for verb, number in sorted(counts.items())) or "none"


def measured(what: str, store: str, sessions: Sessions, folder: Path, url: str) -> dict:
    command = [sys.executable, __file__, "--step", what, "--stores", store, "--folder", str(folder)]
    command += ["--sessions", str(sessions.count), "--open", str(sessions.opened), "--url", url]
    requests(url)
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=os.environ | AWS)
    row = {"sessions": sessions.count, "store": store, "what": what, **json.loads(done.stdout)}
    row["requests"] = requests(url) if store not in ("memory", "folder") else ""
    print(json.dumps(row), file=sys.stderr, flush=True)
    return row


def measure(given: argparse.Namespace, folder: Path) -> Iterator[dict]:
    many, old = Sessions(given.sessions, given.open), Sessions(given.prune, 0)
    if "folder" in given.stores:
        in_folder(many, folder / "many", whole=False)
        in_folder(old, folder / "old", whole=True)
    with bucket(many) as url:
        for store in given.stores:
            bare = {"memory": (), "folder": ("scandir", "find -type f")}.get(store, ("boto3",))
            for what in ("find", "list", *(bare if store != "obstore" else ())):
                yield measured(what, store, many, folder / "many", url)
    with bucket(old) as url:
        for store in given.stores:
            yield measured("prune", store, old, folder / "old", url)


def print_table(rows: list[dict], folder: Path) -> None:
    """A table in Markdown."""
    print("| sessions | store | what | found | s | CPU s | us of CPU a session | MiB | requests |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for row in rows:
        each = row["cpu"] / (row["found"] if row["what"] in ("find", "prune") else row["sessions"]) * 1e6
        figures = f"{row['wall']:.1f} | {row['cpu']:.1f} | {each:.0f} | {row['memory']:.0f}"
        name = f"{row['sessions']:,} | {row['store']} | {row['what']} | {row['found']:,}"
        print(f"| {name} | {figures} | {row['requests']} |")
    kind, device = filesystem(folder)
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    print(
        f"\n{os.cpu_count()} cores, load {os.getloadavg()[1]:.0f}, {platform.platform(terse=True)},", end=" "
    )
    print(f"{kind} on {device}, Python {platform.python_version()}, {versions}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sessions", type=int, default=10_000, help="how many to find and list among")
    parser.add_argument("--open", type=int, default=100, help="how many of these are open")
    parser.add_argument("--prune", type=int, default=500, help="how many to prune")
    parser.add_argument("--stores", nargs="+", choices=STORES, default=STORES)
    parser.add_argument("--folder", type=Path, default=Path(), help="on a real disk (default: .)")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    given = arguments()
    if given.step:
        step(given)
        return
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=given.folder) as name:
        rows = list(measure(given, Path(name).resolve()))
    print_table(rows, given.folder)


if __name__ == "__main__":
    main()
