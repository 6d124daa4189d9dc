"""The write-ahead protocol: artifacts, the fenced journal, planning, emission, resume and sweep.

This room knows the base of a store and of an adapter. It knows no backend, no adapter, no client
library, and nothing of how a session is shown.
"""
