"""``python -m writeahead.demo.artifacts STORE SESSION_ID``: a session's artifacts as a JSON array.

Everything that uses the demo's store is a process of its own, because only the environment of those
processes has the credentials.
"""

import json
import sys
from collections.abc import Iterator

from writeahead.protocol.keys import blocked_key, open_key
from writeahead.stores.base import ArtifactStore
from writeahead.stores.registry import open_store


def read_artifacts(store: ArtifactStore, session_id: str) -> Iterator[dict[str, object]]:
    """Yield key, text and time of each artifact of a session, markers first."""
    keys = [info.key for info in store.list(f"{session_id}/")]
    markers = [key for key in (open_key(session_id), blocked_key(session_id)) if store.head(key)]
    for key in (*markers, *keys):
        found = store.get(key)
        written = found.info.last_modified
        yield {
            "key": key,
            "text": found.data.decode(),
            "written_at": written.timestamp() if written else None,
        }


if __name__ == "__main__":
    print(json.dumps(list(read_artifacts(open_store(sys.argv[1]), sys.argv[2]))))  # noqa: T201 - the parent process reads this
