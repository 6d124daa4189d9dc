"""One request to the Dataverse Web API: address, token, limits, transport, and the meaning of the reply.

This room knows OData and the service protection limits. It knows nothing of mapping files,
readiness, rows of a session, or the protocol.
"""
