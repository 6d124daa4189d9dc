"""Whether an environment can take a plan: table definitions, owners, and the gate over both.

This room reads definitions and owners by `webapi`, and checks the drafts of `mapping` by them.
`doctor` says what a first run would meet, and `discover` writes a draft of a mapping file. The room
writes no row. It does not know how a write is sent or replayed.
"""
