"""Adapters: one package for each remote system, and what they share.

`base` is the interface, and all that the protocol knows of an adapter; `kinds` reads what a class
declares. `limits` is what ends a call from outside, `awaiting` runs what is async. `http` and
`bounded` send requests over HTTP, `settings` reads settings, `registry` opens an adapter by name.
Nothing here knows stores, sessions or the journal.
"""
