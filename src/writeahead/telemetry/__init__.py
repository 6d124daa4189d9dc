"""What a run, a sweep and a store tell while they work: lines for logs, spans, metrics.

Known here: the standard library's loggers, and OpenTelemetry's API where the program has loaded it.
Not known: the protocol, stores and adapters, which call this. Nothing here raises: what only
watches must not decide what is sent.
"""
