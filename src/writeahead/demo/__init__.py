"""``writeahead demo``: the main job on embedded defaults, with every claim that it makes asserted.

``stage`` sets up a CRM, a store and the processes that write; ``story`` is what happens on it.
"""

from writeahead.demo.environment import DemoFailed
from writeahead.demo.script import run_demo

__all__ = ["DemoFailed", "run_demo"]
