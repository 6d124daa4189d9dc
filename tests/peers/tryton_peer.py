"""The Tryton adapter keeps the adapter contract on a real trytond; its database is read directly.

For ``nox -s peers``: it needs trytond and its module party.
"""

import sqlite3
from contextlib import closing

import pytest
from tryton import adapter_from_settings

from tests.peers.tryton_server import DATABASE, SERVICE, SERVICE_PASSWORD, Tryton, running_tryton, token
from writeahead import Operation
from writeahead.testing import AdapterContract, RemoteRow

TABLES = ("party_party", "party_address", "ir_note", "ir_email")


class Crm:
    """One database of a running server."""

    secrets = (SERVICE_PASSWORD,)

    def __init__(self, tryton: Tryton) -> None:
        self.tryton, self.url = tryton, tryton.url
        self.about = f"party.party,{self._party()}"
        self.operations = {
            "party": lambda: Operation(kind="party", payload={"name": "\u00c5sa"}),
            "address_update": self._update,
            "note": lambda: Operation(
                kind="note", payload={"about": self.about, "text": "100% \u2713, call back"}
            ),
            "email": self._email,
        }

    def _party(self) -> int:
        address = {"city": "Berlin", "postal_code": "10115"}
        party = {"name": "Ada", "code": token(), "addresses": [["create", [address]]]}
        return self.tryton.call("party.party.create", [party])[0]

    def _update(self) -> Operation:
        ((address,),) = self._select("SELECT id FROM party_address WHERE party = ?", self._party())
        payload = {"address_id": address, "city": "Bonn", "postal_code": "53111"}
        return Operation(kind="address_update", payload=payload)

    def _email(self) -> Operation:
        payload = {"about": self.about, "to": "ada@example.org", "subject": token(), "body": "As agreed"}
        return Operation(kind="email", payload=payload)

    def adapter(self, url, clock):
        return self._adapter(url, SERVICE_PASSWORD)

    def rotated(self, url, clock):
        return self._adapter(url, "planted-new-password")

    def _adapter(self, url, password):
        return adapter_from_settings(
            environ={
                "TRYTON_URL": url,
                "TRYTON_DATABASE": DATABASE,
                "TRYTON_USER": SERVICE,
                "TRYTON_PASSWORD": password,
            }
        )

    def other_content(self, operation):
        other = {
            "party": {"name": "Grace"},
            "note": {"text": "do not call"},
            "address_update": {"city": "Ulm"},
        }
        return operation.model_copy(update={"payload": {**operation.payload, **other[operation.kind]}})

    def rows(self, operation):
        return getattr(self, f"_{operation.kind}_rows")(operation)

    def _party_rows(self, operation):
        found = self._select("SELECT id, name FROM party_party WHERE code = ?", operation.key)
        return [RemoteRow(f"party.party,{one}", {"name": name}) for one, name in found]

    def _address_update_rows(self, operation):
        sql = "SELECT id, city, postal_code FROM party_address WHERE id = ? AND postal_code = '53111'"
        found = self._select(sql, operation.payload["address_id"])
        return [
            RemoteRow(f"party.address,{one}", {"city": city, "postal_code": postal_code})
            for one, city, postal_code in found
        ]

    def _note_rows(self, operation):
        found = self._select("SELECT id, message FROM ir_note WHERE instr(message, ?)", operation.key)
        return [RemoteRow(f"ir.note,{one}", {"text": text.splitlines()[0]}) for one, text in found]

    def _email_rows(self, operation):
        return [
            RemoteRow("", {"agreed": "As agreed" in message})
            for message in list(self.tryton.mailbox.messages)
            if f"Subject: {operation.payload['subject']}" in message
        ]

    def snapshot(self):
        tables = [self._select(f"SELECT * FROM {table}") for table in TABLES]
        return tables, len(self.tryton.mailbox.messages)

    def edit(self, operation, *, guarded):
        if operation.kind == "note":
            # All that Tryton lets a user do to a note.
            ((note,),) = self._select("SELECT id FROM ir_note WHERE instr(message, ?)", operation.key)
            self.tryton.call("ir.note.write", [note], {"unread": False})
            return lambda: bool(self._select("SELECT * FROM ir_note_read WHERE note = ?", note))
        if operation.kind == "party":
            ((row_id,),) = self._select("SELECT id FROM party_party WHERE code = ?", operation.key)
            model, column = "party.party", "name"
        else:
            row_id = operation.payload["address_id"]
            model, column = "party.address", "city" if guarded else "party_name"
        self.tryton.call(f"{model}.write", [row_id], {column: "A person's"})
        look = f"SELECT {column} FROM {model.replace('.', '_')} WHERE id = ?"
        return lambda: self._select(look, row_id) == [("A person's",)]

    def baseline(self, operation):
        lines = ["attn", "city", "postal_code"]
        (found,) = self.tryton.call(
            "party.address.read", [operation.payload["address_id"]], ["_timestamp", *lines]
        )
        return {"timestamp": found["_timestamp"], "columns": {name: found[name] for name in lines}}

    def remove(self, operation):
        self.tryton.call("party.address.delete", [operation.payload["address_id"]])

    def take_key(self, operation):
        self.tryton.call("party.party.create", [{"name": "Somebody else's", "code": operation.key}])
        look = "SELECT * FROM party_party WHERE code = ?"
        before = self._select(look, operation.key)
        return lambda: self._select(look, operation.key) == before

    def _select(self, sql, *parameters):
        with closing(sqlite3.connect(self.tryton.file, timeout=30)) as connection:
            return connection.execute(sql, parameters).fetchall()


@pytest.fixture(scope="module")
def backdoor(tmp_path_factory):
    with running_tryton(tmp_path_factory.mktemp("tryton")) as tryton:
        yield Crm(tryton)


class TestTryton(AdapterContract):
    """Everything that the kit has, in each replay class but ``upsert``."""
