"""What a first run would meet in an environment, told without writing anything.

Sources, learn.microsoft.com: "WhoAmI Function", "RetrieveVersion Function", "RetrieveUserPrivileges
Function" and "RolePrivilege ComplexType", "EntityMetadata" (Privileges, TableType),
"SecurityPrivilegeMetadata ComplexType" (Name, PrivilegeId, PrivilegeType), "Service protection API
limits" (the headers with what is left), "Send parallel requests" (x-ms-dop-hint).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from writeahead.adapters.dataverse.mapping.mapping import TableMapping
from writeahead.adapters.dataverse.mapping.owner_from import owner_targets
from writeahead.adapters.dataverse.mapping.tables import Table
from writeahead.adapters.dataverse.readiness.findings import Finding, Level
from writeahead.adapters.dataverse.readiness.mapped_keys import key_findings
from writeahead.adapters.dataverse.readiness.mapped_tables import pointed_to, table_findings
from writeahead.adapters.dataverse.readiness.metadata import logical_names, privileges_of, read_tables
from writeahead.adapters.dataverse.readiness.owners import Owners
from writeahead.adapters.dataverse.readiness.parties import ACTIVITY_PARTIES, ADDRESS
from writeahead.adapters.dataverse.webapi.client import DataverseClient
from writeahead.adapters.dataverse.webapi.names import guid_or_none, row_reference
from writeahead.adapters.dataverse.webapi.protection import ServiceLimits
from writeahead.errors import AdapterError, InvalidInput, NotReady

__all__ = ["examine"]

# How far clocks may differ: as in `contents`, which compares the service's times with ours.
_CLOCK_SKEW = timedelta(seconds=5)
# What an operation of each kind needs, by the PrivilegeType of a table's privileges.
_CREATING, _UPDATING = {"Create", "Read"}, {"Read", "Write"}
_PROBING = {"Create", "Read", "Write", "Delete"}


def examine(
    client: DataverseClient, mapping: TableMapping, limits: ServiceLimits, *, probed: str | None = None
) -> Iterator[Finding]:
    """Look at everything that the mapping needs of an environment; it only reads.

    Args:
        client: Of the environment.
        mapping: What may be written.
        limits: What this process keeps to.
        probed: The entity set of a table that a row will also be deleted from.

    Yields:
        Findings, while they are made. An error of one check is a finding, and the next one goes on,
        unless there is no token.
    """
    try:
        client.sign_in()
    except (NotReady, AdapterError) as error:
        yield Finding("token", Level.PROBLEM, str(error))
        return
    yield Finding("token", Level.OK, "one was issued")
    examination = _Examination(client, mapping, limits, probed)
    for subject, check in examination.checks():
        try:
            yield from check()
        except NotReady as error:
            yield Finding(subject, Level.PROBLEM, str(error))
            return
        except (AdapterError, InvalidInput) as error:
            yield Finding(subject, Level.UNKNOWN, f"it can't be read: {error}")


class _Examination:
    def __init__(
        self, client: DataverseClient, mapping: TableMapping, limits: ServiceLimits, probed: str | None
    ) -> None:
        self._client, self._mapping, self._limits, self._probed = client, mapping, limits, probed
        self._user: str | None = None

    def checks(self) -> Iterator[tuple[str, Callable[[], Iterator[Finding]]]]:
        yield "user", self._who
        yield "version", self._version
        yield "default_owner", self._owner
        yield "tables", self._tables
        yield "privileges", self._privileges

    def _who(self) -> Iterator[Finding]:
        since = datetime.now(UTC)
        answer = self._client.ask("/WhoAmI")
        until = datetime.now(UTC)
        self._user = guid_or_none(answer.content.get("UserId"))
        if self._user is None:
            yield Finding("user", Level.PROBLEM, "WhoAmI names no user: is this a Dataverse environment?")
            return
        yield Finding("user", Level.OK, "the application is a user of this environment")
        yield from _clock(answer.headers.get("date", ""), since, until)
        yield from _limits(answer.headers, self._limits)

    def _version(self) -> Iterator[Finding]:
        version = str(self._client.ask("/RetrieveVersion").content.get("Version", ""))
        number = version.split(".")
        if not all(part.isdecimal() for part in number) or len(number) < 2:  # noqa: PLR2004
            yield Finding("version", Level.UNKNOWN, "the environment does not tell its version")
        elif tuple(map(int, number[:2])) < (9, 2):
            yield Finding(
                "version",
                Level.PROBLEM,
                f"{'.'.join(number[:2])}: the Web API v9.2 is needed, which is online",
            )
        else:
            yield Finding("version", Level.OK, ".".join(number))

    def _owner(self) -> Iterator[Finding]:
        tables = [*self._mapping.kinds.values(), *self._mapping.tables.values()]
        owners = {self._mapping.default_owner, *(table.default_owner for table in tables)} - {None}
        known = {row_reference(owner.entity_set, owner.id) for owner in owners if owner is not None}
        if not known:
            yield Finding("default_owner", Level.OK, "none: new rows belong to the application's user")
            return
        problems = Owners(self._client).problems(sorted(known))
        for reference, problem in problems.items():
            yield Finding("default_owner", Level.PROBLEM, f"{reference}: {problem}")
        if not problems:
            yield Finding("default_owner", Level.OK, "can own rows")

    def _mapped(self) -> Iterator[tuple[str, Table, bool, bool]]:
        """The tables with their sections, and whether rows of them are created and updated."""
        for kind, table in self._mapping.kinds.items():
            updates = kind == "queue_status_update"
            yield f"kinds.{kind}", table, not updates, updates or table.completion is not None
        for name, declared in self._mapping.tables.items():
            yield f"tables.{name}", declared, True, True

    def _tables(self) -> Iterator[Finding]:
        mapped = list(self._mapped())
        wanted: dict[str, Iterable[str] | None] = {
            target: () for _, table, _, _ in mapped for target in owner_targets(table)
        }
        wanted |= {table.entity_set: None for _, table, _, _ in mapped}
        found = read_tables(self._client, {**wanted, ACTIVITY_PARTIES: [ADDRESS]})
        targets = {target for _, table, _, _ in mapped for target in pointed_to(table)}
        names = dict.fromkeys(targets) | logical_names(self._client, targets)
        for section, table, creates, updates in mapped:
            subject = f"table {table.entity_set} [{section}]"
            yield from table_findings(
                subject,
                table,
                found.get(table.entity_set),
                names,
                found.get(ACTIVITY_PARTIES),
                creates=creates,
                updates=updates,
            )
            yield from key_findings(subject, table, found)

    def _privileges(self) -> Iterator[Finding]:
        if self._user is None:
            return
        path = f"/systemusers({self._user})/Microsoft.Dynamics.CRM.RetrieveUserPrivileges()"
        held = {
            str(item.get("PrivilegeId")).lower()
            for item in self._client.ask(path).content.get("RolePrivileges", [])
            if isinstance(item, Mapping)
        }
        needs = list(self._needs())
        tables = privileges_of(self._client, {entity_set for _, entity_set, _ in needs})
        for section, entity_set, needed in needs:
            subject = f"privileges on {entity_set} [{section}]"
            known = tables.get(entity_set, {})
            missing = sorted(
                name for kind, (name, key) in known.items() if kind in needed and key not in held
            )
            if missing:
                yield Finding(
                    subject, Level.PROBLEM, f"{', '.join(missing)}: give the application a role with it"
                )
            elif known:
                yield Finding(subject, Level.OK, f"{', '.join(sorted(needed))}, on some rows at least")

    def _needs(self) -> Iterator[tuple[str, str, set[str]]]:
        """The sections, tables, and the types of privileges that are needed on each."""
        for section, table, creates, updates in self._mapped():
            needed = (_CREATING if creates else set()) | (_UPDATING if updates else set())
            needed |= _PROBING if table.entity_set == self._probed else set()
            yield section, table.entity_set, needed
            for target in owner_targets(table):
                yield f"{section}, owner_from", target, {"Read"}


def _clock(date: str, since: datetime, until: datetime) -> Iterator[Finding]:
    try:
        theirs = parsedate_to_datetime(date)
    except ValueError:
        return
    # A Date header has whole seconds, and was made between the request and the answer.
    early, late = since - theirs - timedelta(seconds=1), theirs - until
    off = max(early, late)
    if off > _CLOCK_SKEW:
        yield Finding(
            "clock",
            Level.WARNING,
            f"this machine's clock and the service's differ by {off.total_seconds():.0f} s: set it, since"
            " leases and the age of rows go by it",
        )
    else:
        yield Finding("clock", Level.OK, "as the service's")


def _limits(headers: Mapping[str, str], limits: ServiceLimits) -> Iterator[Finding]:
    left = headers.get("x-ms-ratelimit-burst-remaining-xrm-requests", "")
    hint = headers.get("x-ms-dop-hint", "")
    said = [f"{left} requests are left in this window"] if left.isdecimal() else []
    said += [f"the service recommends {hint} requests at once"] if hint.isdecimal() else []
    if not said:
        yield Finding("limits", Level.UNKNOWN, "the service does not tell them")
        return
    too_many = hint.isdecimal() and limits.concurrent > int(hint)
    said += [f"max_concurrent is {limits.concurrent}"] if too_many else []
    yield Finding("limits", Level.WARNING if too_many else Level.OK, ", ".join(said))
