"""From the caller's words to columns: payload models, the mapping file, and the requests they become.

This room knows which table and column a word is written to. It sends nothing.
"""
