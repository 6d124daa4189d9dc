"""Tryton over JSON-RPC, the worked example of docs/adapters.md.

`adapter` knows the kinds of operation and what proves a replay of each. `rpc` knows Tryton's
requests, sessions and errors, and nothing of operations. `settings` knows the variables to set.
"""

from tryton.adapter import AddressBaseline, AddressUpdate, Email, Note, Party, TrytonAdapter
from tryton.settings import adapter_from_settings

__all__ = [
    "AddressBaseline",
    "AddressUpdate",
    "Email",
    "Note",
    "Party",
    "TrytonAdapter",
    "adapter_from_settings",
]
