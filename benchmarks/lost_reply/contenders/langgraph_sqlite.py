"""LangGraph: a graph of four nodes, its checkpoints in SQLite, durability "sync".

- Recovery: invoke it with the same thread id and None as input; it goes on at the node that did
  not end (https://docs.langchain.com/oss/python/langgraph/durable-execution). A thread that has
  no checkpoint begins with its input.
- That page also asks for idempotent side effects, by keys or by a look at what is there. The key
  is made from the thread's id.
- Retries: a RetryPolicy with ``retry_on`` for each node.
"""

import sqlite3
from typing import TypedDict

from benchmarks.lost_reply import crm as client

NAME = "LangGraph"
HAS_TEMPLATE = True
PACKAGES = ("langgraph", "langgraph-checkpoint-sqlite")


class State(TypedDict):
    session: str
    deal: dict


def load(folder: str) -> None:
    import langgraph.checkpoint.sqlite
    import langgraph.graph  # noqa: F401


def work(job) -> None:
    graph = _graph(job)
    if job.verb == "template":
        graph.checkpointer.setup()
        return
    config = {"configurable": {"thread_id": job.session}}
    # Whether it has ended is not asked: `next` is empty, too, while the writes of a node that has
    # ended wait for their checkpoint. Invoking a graph that has ended does nothing.
    begun = graph.get_state(config).created_at is not None
    given = None if begun else {"session": job.session, "deal": {}}
    graph.invoke(given, config, durability="sync")


def _graph(job):
    from langgraph.checkpoint.sqlite import SqliteSaver
    from langgraph.graph import END, START, StateGraph
    from langgraph.types import RetryPolicy

    crm = job.crm

    def baseline(state: State) -> dict:
        return {"deal": crm.baseline()}

    def create(state: State) -> dict:
        crm.create(f"{state['session']}-create")
        return {}

    def update(state: State) -> dict:
        crm.update(state["deal"])
        return {}

    def email(state: State) -> dict:
        crm.email()
        return {}

    builder = StateGraph(State)
    nodes = {"baseline": baseline, "create": create, "update": update, "email": email}
    for name, node in nodes.items():
        rule = client.may_retry(name, crm.setup)
        retries = RetryPolicy(initial_interval=0, max_attempts=client.ATTEMPTS, jitter=False, retry_on=rule)
        builder.add_node(name, node, retry_policy=retries)
    for before, after in zip([START, *nodes], [*nodes, END], strict=True):
        builder.add_edge(before, after)
    connection = sqlite3.connect(f"{job.folder}/langgraph.sqlite", check_same_thread=False)
    return builder.compile(checkpointer=SqliteSaver(connection))
