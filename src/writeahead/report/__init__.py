"""What people read about a session: built from the artifacts alone.

This room reads a store. It emits nothing, and it knows no terminal. ``html`` makes a web page.
"""
