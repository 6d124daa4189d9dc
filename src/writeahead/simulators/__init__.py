"""Remote systems to try things on: each is a folder, with SQLite underneath and faults on demand.

The simulators know nothing of adapters, stores or the protocol. They are reached by HTTP only.
"""
