"""The examples of docs/engines.md for Ray, Airflow, Prefect, Lambda with SQS, and a CronJob.

Each runs as its engine runs it, as far as one machine can: `nox -s engines` does.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.support.engines import DownAdapter, judge, park
from tests.support.processes import child_environment
from tests.support.reference_remote import serve
from tests.support.remotes import operations
from writeahead import RunPolicy, open_store, write_back

EXAMPLES = Path(__file__).parents[2] / "examples/engines"
NAMES = [f"s{number}" for number in range(6)]


@pytest.fixture
def remote():
    with serve() as running:
        yield running


@pytest.fixture
def store(tmp_path, remote):
    park(tmp_path / "store", remote.url, NAMES)
    return tmp_path / "store"


@pytest.fixture
def environ(tmp_path, remote, store):
    return child_environment(
        WRITEAHEAD_STORE=store.as_uri(),
        WRITEAHEAD_ADAPTER="tests.support.engines:make_adapter",
        CRM_URL=remote.url,
        HOME=str(tmp_path),
    )


def run(environ, *command, python=sys.executable):
    done = subprocess.run(
        [python, *map(str, command)], env=environ, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def needs(module):
    return pytest.mark.skipif(
        importlib.util.find_spec(module) is None, reason=f"{module} is not installed: see `nox -s engines`"
    )


def refuse_at_first(remote, times):
    honest, answers = remote.answer, [(503, b"{}")] * times
    remote.answer = lambda *request: answers.pop() if answers else honest(*request)


# Each line of its workers as it is.
RAY = {"RAY_DEDUP_LOGS": "0"}


@needs("ray")
def test_ray(store, remote, environ):
    # One session needs a second turn.
    refuse_at_first(remote, 4)
    said = run({**environ, **RAY}, EXAMPLES / "ray_sweep.py")
    assert said.count("completed") >= len(NAMES)
    judge(store, remote, NAMES, most_blocked=0)


@needs("prefect")
def test_prefect(store, remote, environ, tmp_path):
    refuse_at_first(remote, 4)
    here = {
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "200",
    }
    said = run({**environ, **here}, EXAMPLES / "prefect_flow.py")
    assert "Completed" in said
    judge(store, remote, NAMES, most_blocked=0)


# Airflow pins so many versions that it has an environment of its own.
AIRFLOW = os.environ.get("WRITEAHEAD_AIRFLOW")


@pytest.mark.skipif(not AIRFLOW, reason="WRITEAHEAD_AIRFLOW names no Python that has Airflow")
def test_airflow(store, remote, environ, tmp_path):
    here = {
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(EXAMPLES),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path}/airflow.db",
    }
    environ = {**environ, **here}
    run(environ, "-m", "airflow", "db", "migrate", python=AIRFLOW)
    program = "import airflow_dag\nrun = airflow_dag.writebacks.test()\nprint('state', run.state)\n"
    environ["PYTHONPATH"] += os.pathsep + str(EXAMPLES)
    assert "state success" in run(environ, "-c", program, python=AIRFLOW)
    judge(store, remote, NAMES, most_blocked=0)


@pytest.fixture
def queue(monkeypatch):
    """A queue of moto's server, which hides and returns messages as SQS does."""
    server = pytest.importorskip("moto.server", reason="moto is not installed: see `nox -s engines`")
    boto3 = pytest.importorskip("boto3")
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL_SQS": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    sqs = boto3.client("sqs")
    url = sqs.create_queue(QueueName="writebacks", Attributes={"VisibilityTimeout": "240"})["QueueUrl"]
    monkeypatch.setenv("QUEUE_URL", url)
    yield sqs, url
    running.stop()


def deliver(sqs, url, handler):
    """Do what Lambda does for a queue: receive, call, delete what did not fail."""
    # https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html has an event.
    received = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
    records = [
        {
            "messageId": one["MessageId"],
            "receiptHandle": one["ReceiptHandle"],
            "body": one["Body"],
            "eventSource": "aws:sqs",
        }
        for one in received
    ]
    failed = {one["itemIdentifier"] for one in handler({"Records": records}, None)["batchItemFailures"]}
    for one in received:
        if one["MessageId"] not in failed:
            sqs.delete_message(QueueUrl=url, ReceiptHandle=one["ReceiptHandle"])
    return records, failed


def counts(sqs, url):
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return [int(found[name]) for name in names]


def test_lambda_with_sqs(tmp_path, store, remote, queue, monkeypatch):
    sqs, url = queue
    monkeypatch.setenv("WRITEAHEAD_STORE", store.as_uri())
    monkeypatch.setenv("WRITEAHEAD_ADAPTER", "tests.support.engines:make_adapter")
    monkeypatch.setenv("CRM_URL", remote.url)
    spec = importlib.util.spec_from_file_location("lambda_sqs", EXAMPLES / "lambda_sqs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    # One session was told to wait for a day, another for two seconds.
    for name, seconds in (("day", 86400.0), ("soon", 2.0)):
        adapter = DownAdapter(remote.url)
        adapter.asks = seconds
        write_back(
            operations("create"),
            session_id=name,
            store=open_store(store),
            adapter=adapter,
            policy=RunPolicy(attempts=1),
        )
        adapter.close()
    for name in [*NAMES, "day", "soon"]:
        sqs.send_message(QueueUrl=url, MessageBody=name)
    records, failed = deliver(sqs, url, module.handler)
    bodies = {one["messageId"]: one["body"] for one in records}
    assert len(records) == 8
    assert {bodies[one] for one in failed} <= {"day", "soon"}
    assert "day" in {bodies[one] for one in failed}
    judge(store, remote, NAMES, most_blocked=0)
    # Only what is not due is left in the queue, and hidden; `soon` comes back by itself.
    came = threading.Event()
    while "soon" in {bodies[one] for one in failed}:
        came.wait(0.2)
        records, again = deliver(sqs, url, module.handler)
        if records and not again:
            break
    assert counts(sqs, url) == [0, 1]
    assert len(remote.effects) == 3 * len(NAMES) + 1
    # A message that is delivered twice, as SQS may, sends nothing.
    sent = len(remote.requests)
    sqs.send_message(QueueUrl=url, MessageBody=NAMES[0])
    assert deliver(sqs, url, module.handler)[1] == set()
    assert len(remote.requests) == sent


def _json(line):
    return json.loads(line) if line.startswith("{") else None


def test_the_command_of_the_cron_job(store, remote, environ):
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed: see `nox -s engines`")
    job = yaml.safe_load((EXAMPLES / "cronjob.yaml").read_text())
    (container,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert container["args"][0] == "writeahead"
    given = {one["name"] for one in container["env"]}
    assert given <= environ.keys()
    said = run(environ, "-m", *container["args"])
    (totals,) = [line for line in map(_json, said.splitlines()) if line and line["type"] == "totals"]
    assert totals["totals"] == {"completed": len(NAMES)}
    judge(store, remote, NAMES, most_blocked=0)


@pytest.mark.parametrize("name", ["cronjob.yaml", "deployment.yaml"])
def test_it_fits_the_schema_of_kubernetes(name):
    pytest.importorskip("kubernetes_validate", reason="it is not installed: see `nox -s engines`")
    tool = shutil.which("kubernetes-validate", path=str(Path(sys.executable).parent))
    subprocess.run([tool, "--strict", str(EXAMPLES / name)], check=True)
