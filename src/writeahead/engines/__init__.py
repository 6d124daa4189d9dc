"""Sweeps whose sessions are resumed by the workers of an engine.

`writeahead.items` knows one session as data; what is here sends many, and bounds them as
`writeahead.sweep` does. No engine's library is loaded unless it is asked for.
"""

from writeahead.engines.sweeping import sweep_items

__all__ = ["sweep_items"]
