"""Artifact stores: the interface in `base`, a module for each backend, `open_store` in `registry`.

This room knows keys, bytes and listings, and how each backend is reached, proved and classified by
its errors. It knows nothing of sessions, plans, journals or operations: those are keys and bytes
here. Only a backend's own module imports its client library, and only when its scheme is opened.
"""
