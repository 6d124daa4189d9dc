"""``writeahead demo``: the main job on embedded defaults, with every claim that it makes asserted.

``stage`` sets up a CRM, a store and the processes that write; ``story`` is what happens on it.
"""

from writeahead.demo.stage import DemoFailed
from writeahead.demo.story import run_demo

__all__ = ["DemoFailed", "run_demo"]
