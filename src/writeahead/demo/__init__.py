"""``writeahead demo``: the main job on a simulated CRM, with every claim checked.

``environment`` starts the CRM and the store, and runs commands as processes of their own.
``script`` is what the demo does and claims, step by step. The demo uses the command line as a user
would: it knows the commands and the artifacts, and nothing of how they come about.
"""

from writeahead.demo.environment import DemoFailed
from writeahead.demo.script import run_demo

__all__ = ["DemoFailed", "run_demo"]
