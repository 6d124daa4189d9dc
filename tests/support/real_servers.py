"""Object stores of others, each started on loopback where it is installed.

A server's program is looked for in the folders of ``WRITEAHEAD_SERVERS`` (separated as in
``PATH``), and then in ``PATH``. `nox -s servers` installs them and sets the variable.
"""

import contextlib
import os
import pwd
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

KEY, SECRET = "test:tester", "testing"
BUCKET = "bucket"
# Seconds until a server answers; the slowest takes ten.
_PATIENCE = 90.0


@dataclass(frozen=True)
class Endpoint:
    """A server that runs.

    Attributes:
        url: Where.
        access_key: Whom to sign as.
        secret_key: What to sign with.
    """

    url: str
    access_key: str = KEY
    secret_key: str = SECRET


class NotInstalled(Exception):
    """A server can't be started here; the text says why."""


def program(name: str) -> str:
    """The path of a program."""
    folders = os.environ.get("WRITEAHEAD_SERVERS", ""), os.environ["PATH"]
    found = shutil.which(name, path=os.pathsep.join(filter(None, folders)))
    if found is None:
        raise NotInstalled(f"{name} is not installed")
    return found


def free_port() -> int:
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        return int(tried.getsockname()[1])


@contextlib.contextmanager
def running(
    commands: list[list[str]], ports: Iterable[int], log: Path, env: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Programs that serve until the block ends, once each port answers; gives the first URL."""
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    with contextlib.ExitStack() as stack:
        output = stack.enter_context(log.open("wb"))
        started = []
        for command in commands:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=log.parent,
                env={**os.environ, **(env or {})},
            )
            stack.callback(_end, process)
            started.append(process)
        deadline = time.monotonic() + _PATIENCE
        while not all(map(_answers, urls)):
            ended = [one.args[0] for one in started if one.poll() is not None]
            if ended or time.monotonic() > deadline:
                tail = log.read_bytes()[-2000:].decode(errors="replace")
                raise AssertionError(f"{ended or 'it'} did not come up: {tail}")
            time.sleep(0.1)
        yield urls[0]


def _end(process: subprocess.Popen) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


@contextlib.contextmanager
def swift(folder: Path) -> Iterator[Endpoint]:
    """OpenStack Swift with s3api, one of each of its four servers, one replica."""
    # The interpreter of the environment that Swift is installed in.
    build, python = program("swift-ring-builder"), Path(program("swift-proxy-server")).with_name("python3")
    ports = {kind: free_port() for kind in ("account", "container", "object", "proxy")}
    (folder / "swift.conf").write_text(
        "[swift-hash]\nswift_hash_path_suffix = a\nswift_hash_path_prefix = b\n"
        "[storage-policy:0]\nname = one\ndefault = yes\n"
    )
    for kind in ("account", "container", "object"):
        ring = str(folder / f"{kind}.builder")
        for command in (
            ["create", "4", "1", "0"],
            ["add", f"r1z1-127.0.0.1:{ports[kind]}/disk", "1"],
            ["rebalance"],
        ):
            subprocess.run([build, ring, *command], check=True, capture_output=True)
        (folder / f"{kind}.conf").write_text(
            _swift_default(folder, ports[kind])
            + f"[pipeline:main]\npipeline = {kind}-server\n[app:{kind}-server]\nuse = egg:swift#{kind}\n"
        )
    (folder / "devices" / "disk").mkdir(parents=True)
    (folder / "proxy.conf").write_text(
        _swift_default(folder, ports["proxy"])
        + "[pipeline:main]\npipeline = catch_errors cache s3api tempauth proxy-server\n"
        "[app:proxy-server]\nuse = egg:swift#proxy\nallow_account_management = true\n"
        "account_autocreate = true\n"
        "[filter:tempauth]\nuse = egg:swift#tempauth\nuser_test_tester = testing .admin\n"
        "[filter:s3api]\nuse = egg:swift#s3api\nlocation = us-east-1\ns3_acl = false\n"
        "[filter:catch_errors]\nuse = egg:swift#catch_errors\n"
        f"[filter:cache]\nuse = egg:swift#memcache\nmemcache_servers = 127.0.0.1:{free_port()}\n"
    )
    run = (
        "import sys\nfrom swift.common import utils\nutils.set_swift_dir(sys.argv[1])\n"
        "from swift.common.wsgi import run_wsgi\nsys.exit(run_wsgi(sys.argv[2], sys.argv[3]))"
    )
    commands = [
        [str(python), "-c", run, str(folder), str(folder / f"{kind}.conf"), f"{kind}-server"]
        for kind in ports
    ]
    with running(commands, [ports["proxy"], *ports.values()], folder / "log") as url:
        yield Endpoint(url)


def _swift_default(folder: Path, port: int) -> str:
    return (
        f"[DEFAULT]\nbind_ip = 127.0.0.1\nbind_port = {port}\nworkers = 0\nswift_dir = {folder}\n"
        f"devices = {folder / 'devices'}\nmount_check = false\nfallocate_reserve = 0\n"
        f"user = {pwd.getpwuid(os.getuid()).pw_name}\nlog_level = WARNING\n"
        f"log_address = {folder / 'no-syslog'}\n"
    )


@contextlib.contextmanager
def seaweedfs(folder: Path) -> Iterator[Endpoint]:
    weed = program("weed")
    ports = [free_port() for _ in range(8)]
    names = ("s3.port", "s3.port.grpc", "filer.port", "filer.port.grpc", "master.port", "master.port.grpc")
    names += ("volume.port", "volume.port.grpc")
    command = [weed, "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3", "-filer"]
    # Each bucket takes some volumes of its own.
    command += ["-volume.max=100", "-master.volumeSizeLimitMB=64"]
    command += [f"-{name}={port}" for name, port in zip(names, ports, strict=True)]
    login = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
    with running([command], ports[:1], folder / "log", login) as url:
        yield Endpoint(url)


@contextlib.contextmanager
def rclone(folder: Path) -> Iterator[Endpoint]:
    port = free_port()
    (folder / "data").mkdir()
    command = [program("rclone"), "serve", "s3", "--addr", f"127.0.0.1:{port}"]
    command += ["--auth-key", f"{KEY},{SECRET}", "--config", str(folder / "none"), str(folder / "data")]
    with running([command], [port], folder / "log") as url:
        yield Endpoint(url)


@contextlib.contextmanager
def s3rver(folder: Path) -> Iterator[Endpoint]:
    port = free_port()
    command = [program("s3rver"), "--directory", str(folder / "data"), "--address", "127.0.0.1"]
    command += ["--port", str(port), "--silent"]
    (folder / "data").mkdir()
    with running([command], [port], folder / "log") as url:
        yield Endpoint(url, "S3RVER", "S3RVER")


@contextlib.contextmanager
def moto(folder: Path) -> Iterator[Endpoint]:
    """moto as it is, without the lock that the tests' server holds."""
    server = Path(sys.executable).with_name("moto_server")
    command = [str(server) if server.exists() else program("moto_server")]
    port = free_port()
    command += ["-H", "127.0.0.1", "-p", str(port)]
    with running([command], [port], folder / "log") as url:
        yield Endpoint(url)


@contextlib.contextmanager
def minio(folder: Path) -> Iterator[Endpoint]:
    port = free_port()
    command = [program("minio"), "server", "--address", f"127.0.0.1:{port}", str(folder / "data")]
    login = {"MINIO_ROOT_USER": "tester-key", "MINIO_ROOT_PASSWORD": secrets.token_hex(8)}
    with running([command], [port], folder / "log", login) as url:
        yield Endpoint(url, *login.values())


@contextlib.contextmanager
def azurite(folder: Path) -> Iterator[Endpoint]:
    """Microsoft's emulator of Azure Blob Storage; its account and key are well known."""
    port = free_port()
    command = [program("azurite-blob"), "--blobHost", "127.0.0.1", "--blobPort", str(port)]
    command += ["--location", str(folder), "--silent", "--disableTelemetry", "--skipApiVersionCheck"]
    with running([command], [port], folder / "log") as url:
        # https://learn.microsoft.com/azure/storage/common/storage-connect-azurite
        account = "devstoreaccount1"
        key = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
        yield Endpoint(f"{url}/{account}", account, key)


SERVERS: dict[str, Callable[[Path], contextlib.AbstractContextManager[Endpoint]]] = {
    "swift": swift,
    "seaweedfs": seaweedfs,
    "rclone": rclone,
    "s3rver": s3rver,
    "moto": moto,
    "minio": minio,
    "azurite": azurite,
}
_VERSIONS = {
    "swift": ("swift-proxy-server", "-c", "import swift; print(swift.__version__)"),
    "seaweedfs": ("weed", "version"),
    "rclone": ("rclone", "version"),
    "s3rver": ("s3rver", "--version"),
    "minio": ("minio", "--version"),
    "azurite": ("azurite-blob", "--version"),
}


def version_of(name: str) -> str:
    """A server's version, as it says it."""
    if name == "moto":
        return metadata.version("moto")
    tool, *arguments = _VERSIONS[name]
    command = program(tool)
    if name == "swift":
        command = str(Path(command).with_name("python3"))
    done = subprocess.run([command, *arguments], capture_output=True, text=True, check=False)
    found = re.search(r"\d+\.\d+[.\d]*", done.stdout)
    return found[0] if found else "of unknown version"
