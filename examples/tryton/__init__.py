"""Tryton over JSON-RPC: `adapter` is the worked example of docs/adapters.md, `rpc` sends its requests."""

from tryton.adapter import AddressUpdate, Email, Note, Party, TrytonAdapter
from tryton.settings import adapter_from_settings

__all__ = ["AddressUpdate", "Email", "Note", "Party", "TrytonAdapter", "adapter_from_settings"]
