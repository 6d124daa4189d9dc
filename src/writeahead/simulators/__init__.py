"""Simulated remote systems: each is a folder, keeps its rows in SQLite, and has faults on demand.

A simulator knows one remote system, by that system's own documentation. It knows nothing of
adapters, stores, sessions or the protocol. Adapters reach it by HTTP only; tests may also read and
change its database.
"""
