"""What the environment has, held against what a plan needs: definitions, owners, and the gate.

This room reads definitions by `webapi` and judges planned writes of `mapping`. It writes no row.
"""
