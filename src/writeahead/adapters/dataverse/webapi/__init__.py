"""One request to the Dataverse Web API: address, token, limits, and the meaning of the reply.

This room knows OData and the service protection limits. A request goes from `client` to `endpoint`,
which maps failures to our errors, and from there through httpx: `bearer` signs it, `protection`
keeps it below the limits. `errors` makes the error of a refusal by its code, which `codes`
explains; `traces` has the ids that a request is found by. The room does not know mapping files,
readiness, or the protocol.
"""
