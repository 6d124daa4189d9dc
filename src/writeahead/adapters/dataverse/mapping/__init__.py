"""From payloads to columns: payload models, the mapping file, and the writes they become.

This room knows which table and column each field of a payload is written to. It takes names and
forms of ids from `webapi`. It sends nothing and reads no environment, and it does not know what a
row is like now.
"""
