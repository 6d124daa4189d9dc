"""The request log: each request, its effect and its reply, without the Authorization header."""

import sqlite3
import time
from collections.abc import Mapping

__all__ = ["RequestLog"]


class RequestLog:
    """Writes the log. Each entry is durable before its request is handled.

    Args:
        connection: A connection to the database.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def received(
        self,
        *,
        method: str,
        path: str,
        query: str,
        headers: Mapping[str, str],
        body: str | None,
        batch: int | None = None,
    ) -> int:
        """Log a request, as a part of a batch if one is given; return its sequence number."""
        cursor = self._connection.execute(
            "INSERT INTO requests (method, path, query, if_match, if_none_match, prefer, body, "
            "received_at, batch) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                method,
                path,
                query,
                headers.get("if-match"),
                headers.get("if-none-match"),
                headers.get("prefer"),
                body,
                time.time(),
                batch,
            ),
        )
        return int(cursor.lastrowid or 0)

    def applied(self, sequence: int) -> None:
        """Log that a request changed rows; call this in the transaction that changes them."""
        self._connection.execute(
            "UPDATE requests SET applied = 1, applied_at = ? WHERE sequence = ?", (time.time(), sequence)
        )

    def answered(self, sequence: int, *, status: int | None, fault: str | None) -> None:
        """Log the status about to be sent (None: no reply), and the fault of the request."""
        self._connection.execute(
            "UPDATE requests SET status = ?, fault = ?, answered_at = ? WHERE sequence = ?",
            (status, fault, time.time(), sequence),
        )
