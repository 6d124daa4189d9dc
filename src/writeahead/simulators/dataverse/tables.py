"""The tables of the simulated organization. A new table needs a description here, no more.

``phonecall``, ``task``, ``systemuser``, ``team``, ``contact``, ``account``, ``queue`` and
``queueitem`` hold the columns that an outbound-call service touches, with the names, lengths and
option values of Microsoft's table reference
(learn.microsoft.com/power-apps/developer/data-platform/reference/entities). Columns and tables that
start with ``wa_`` are such a service's own customization.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from writeahead.simulators.dataverse.parties import PARTICIPATION
from writeahead.simulators.dataverse.schema import AlternateKey, Column, Kind, Schema, Table

__all__ = [
    "DEFAULT_SCHEMA",
    "OUTCOMES",
    "QUEUE_STATUSES",
    "REASONS",
]

_FIRST_CUSTOM_OPTION = 100_000_000


def _custom(*labels: str) -> dict[int, str]:
    return {_FIRST_CUSTOM_OPTION + number: label for number, label in enumerate(labels)}


QUEUE_STATUSES = _custom(
    "pending",
    "in_progress",
    "completed",
    "callback_requested",
    "needs_review",
    "do_not_call",
    "blocked",
    "failed",
)
OUTCOMES = _custom(
    "interested_callback",
    "email_captured",
    "needs_human_review",
    "do_not_call",
    "blocked_by_eligibility",
    "no_answer",
    "voicemail",
)
REASONS = _custom(
    "low_confidence",
    "complaint",
    "identity_not_confirmed",
    "outside_calling_hours",
    "on_do_not_call_list",
    "no_consent",
    "other",
)
_ANY_ACTIVITY_TARGET = ("contacts", "accounts", "wa_callqueues")


def _text(max_length: int) -> Column:
    return Column(kind=Kind.STRING, max_length=max_length)


def _memo(max_length: int) -> Column:
    return Column(kind=Kind.MEMO, max_length=max_length)


def _integer(minimum: int = 0, maximum: int = 2**31 - 1, default: int | None = None) -> Column:
    return Column(kind=Kind.INTEGER, minimum=minimum, maximum=maximum, default=default)


def _yes_no(*, default: bool | None = False) -> Column:
    return Column(kind=Kind.BOOLEAN, default=default)


def _time() -> Column:
    return Column(kind=Kind.DATETIME)


def _choice(options: Mapping[int, str], default: int | None = None) -> Column:
    return Column(kind=Kind.PICKLIST, options=options, default=default)


def _lookup(**navigation: str) -> Column:
    return Column(kind=Kind.LOOKUP, navigation=navigation)


def _party_list(*targets: str) -> Column:
    # "Phone Call (PhoneCall) table reference": from and to are ApplicationRequired.
    navigation = {target: f"partyid_{_LOGICAL[target]}" for target in targets}
    return Column(kind=Kind.PARTYLIST, navigation=navigation, required="ApplicationRequired")


def _required(column: Column) -> Column:
    return replace(column, required="ApplicationRequired")


def _read_only(kind: Kind, default: Any = None) -> Column:
    return Column(kind=kind, writable=False, default=default)


def _labels(options: Iterable[int], labels: Iterable[str]) -> dict[int, str]:
    return dict(zip(options, labels, strict=True))


_OWNER = {
    "ownerid": _lookup(systemusers="ownerid", teams="ownerid"),
    "owninguser": _read_only(Kind.LOOKUP),
    "owningteam": _read_only(Kind.LOOKUP),
}
_SYSTEM = {
    "createdon": _read_only(Kind.DATETIME),
    "modifiedon": _read_only(Kind.DATETIME),
    "createdby": _read_only(Kind.LOOKUP),
    "modifiedby": _read_only(Kind.LOOKUP),
    "versionnumber": _read_only(Kind.BIGINT),
}
_PRIORITY = _choice({0: "Low", 1: "Normal", 2: "High"}, default=1)


def _states(states: Mapping[int, str], statuses: Mapping[int, str], default_status: int) -> dict[str, Column]:
    return {
        "statecode": Column(kind=Kind.STATE, options=states, default=0),
        "statuscode": Column(kind=Kind.STATUS, options=statuses, default=default_status),
    }


def _opened(states: dict[str, Column]) -> dict[str, Column]:
    """The states of a table whose rows are always open at first: IsValidForCreate is false."""
    return {**states, "statecode": replace(states["statecode"], creatable=False)}


_ACTIVE = _states({0: "Active", 1: "Inactive"}, {1: "Active", 2: "Inactive"}, default_status=1)
_ACTIVE_STATES = {0: (1,), 1: (2,)}


def _activity(name: str) -> dict[str, Column]:
    return {
        "activityid": Column(kind=Kind.UNIQUEIDENTIFIER),
        "activitytypecode": _read_only(Kind.STRING, default=name),
        "subject": _required(_text(200)),
        "description": _memo(2000),
        "category": _text(250),
        "subcategory": _text(250),
        "scheduledstart": _time(),
        "scheduledend": _time(),
        "actualstart": _time(),
        "actualend": _time(),
        "scheduleddurationminutes": _read_only(Kind.INTEGER),
        "actualdurationminutes": _integer(),
        "prioritycode": _PRIORITY,
        "regardingobjectid": _lookup(
            **{target: f"regardingobjectid_{_LOGICAL[target]}_{name}" for target in _ANY_ACTIVITY_TARGET}
        ),
        # These say which operation wrote the row. A read-back after an unknown outcome reads them.
        "wa_sessionid": _text(128),
        "wa_operationid": _text(200),
        "wa_outcome": _choice(OUTCOMES),
        "wa_reasoncode": _choice(REASONS),
        **_OWNER,
        **_SYSTEM,
    }


_LOGICAL = {
    "contacts": "contact",
    "accounts": "account",
    "wa_callqueues": "wa_callqueue",
    "systemusers": "systemuser",
    "queues": "queue",
    "phonecalls": "phonecall",
    "tasks": "task",
}

_PHONECALL = Table(
    entity_set="phonecalls",
    logical_name="phonecall",
    primary_key="activityid",
    primary_name="subject",
    activity=True,
    states={0: (1,), 1: (2, 4), 2: (3,)},
    columns={
        **_activity("phonecall"),
        "phonenumber": _text(200),
        "directioncode": _yes_no(default=True),
        "leftvoicemail": _yes_no(),
        "from": _party_list("accounts", "contacts", "systemusers"),
        "to": _party_list("accounts", "contacts", "systemusers"),
        **_opened(
            _states(
                {0: "Open", 1: "Completed", 2: "Canceled"},
                _labels((1, 2, 3, 4), ("Open", "Made", "Canceled", "Received")),
                default_status=1,
            )
        ),
    },
)
_TASK = Table(
    entity_set="tasks",
    logical_name="task",
    primary_key="activityid",
    primary_name="subject",
    activity=True,
    states={0: (2, 3, 4, 7), 1: (5,), 2: (6,)},
    columns={
        **_activity("task"),
        "percentcomplete": _integer(0, 100, default=0),
        "wa_email": _text(100),
        **_states(
            {0: "Open", 1: "Completed", 2: "Canceled"},
            _labels(
                (2, 3, 4, 5, 6, 7),
                (
                    "Not Started",
                    "In Progress",
                    "Waiting on someone else",
                    "Completed",
                    "Canceled",
                    "Deferred",
                ),
            ),
            default_status=2,
        ),
    },
)
_ACTIVITY_PARTY = Table(
    entity_set="activityparties",
    logical_name="activityparty",
    primary_key="activitypartyid",
    primary_name="addressused",
    list_only=True,
    columns={
        "activitypartyid": Column(kind=Kind.UNIQUEIDENTIFIER),
        "activityid": _lookup(
            **{target: f"activityid_{_LOGICAL[target]}" for target in ("phonecalls", "tasks")}
        ),
        "partyid": _lookup(
            **{
                target: f"partyid_{_LOGICAL[target]}"
                for target in ("accounts", "contacts", "queues", "systemusers")
            }
        ),
        "participationtypemask": _choice(PARTICIPATION),
        "addressused": _text(320),
        "unresolvedpartyname": _text(200),
        "versionnumber": _read_only(Kind.BIGINT),
    },
)
_CALL_QUEUE = Table(
    entity_set="wa_callqueues",
    logical_name="wa_callqueue",
    primary_key="wa_callqueueid",
    primary_name="wa_name",
    states=_ACTIVE_STATES,
    keys={"wa_externalidkey": AlternateKey(("wa_externalid",))},
    columns={
        "wa_callqueueid": Column(kind=Kind.UNIQUEIDENTIFIER),
        "wa_name": _text(100),
        "wa_externalid": _text(100),
        "wa_status": _choice(QUEUE_STATUSES, default=min(QUEUE_STATUSES)),
        "wa_attempts": _integer(0, 1000, default=0),
        "wa_phonenumber": _text(200),
        "wa_email": _text(100),
        "wa_donotcall": _yes_no(),
        "wa_donotcallreason": _text(200),
        "wa_donotcallon": _time(),
        "wa_lastoutcome": _choice(OUTCOMES),
        "wa_reasoncode": _choice(REASONS),
        "wa_lastcallon": _time(),
        "wa_nextattempton": _time(),
        "wa_notes": _memo(4000),
        # The same columns for the last write.
        "wa_lastsession": _text(128),
        "wa_lastoperation": _text(200),
        "wa_contact": _lookup(contacts="wa_Contact"),
        "wa_lastphonecall": _lookup(phonecalls="wa_LastPhoneCall"),
        **_OWNER,
        **_SYSTEM,
        **_ACTIVE,
    },
)
_SYSTEMUSER = Table(
    entity_set="systemusers",
    logical_name="systemuser",
    primary_key="systemuserid",
    primary_name="fullname",
    columns={
        "systemuserid": Column(kind=Kind.UNIQUEIDENTIFIER),
        "fullname": _text(200),
        "firstname": _text(256),
        "lastname": _text(256),
        "domainname": _text(1024),
        "internalemailaddress": _text(100),
        "isdisabled": _yes_no(),
        "applicationid": Column(kind=Kind.UNIQUEIDENTIFIER),
        "azureactivedirectoryobjectid": Column(kind=Kind.UNIQUEIDENTIFIER),
        **_SYSTEM,
    },
)
_TEAM = Table(
    entity_set="teams",
    logical_name="team",
    primary_key="teamid",
    primary_name="name",
    columns={
        "teamid": Column(kind=Kind.UNIQUEIDENTIFIER),
        "name": _text(160),
        "description": _memo(2000),
        "emailaddress": _text(100),
        "isdefault": _yes_no(),
        "teamtype": _choice(
            {0: "Owner", 1: "Access", 2: "AAD Security Group", 3: "AAD Office Group"}, default=0
        ),
        **_SYSTEM,
    },
)
_CONTACT = Table(
    entity_set="contacts",
    logical_name="contact",
    primary_key="contactid",
    primary_name="fullname",
    states=_ACTIVE_STATES,
    columns={
        "contactid": Column(kind=Kind.UNIQUEIDENTIFIER),
        "firstname": _text(50),
        "lastname": _text(50),
        "fullname": _text(160),
        "emailaddress1": _text(100),
        "telephone1": _text(50),
        "mobilephone": _text(50),
        "donotphone": _yes_no(),
        "donotemail": _yes_no(),
        "donotbulkemail": _yes_no(),
        "donotpostalmail": _yes_no(),
        "description": _memo(2000),
        "parentcustomerid": _lookup(accounts="parentcustomerid_account", contacts="parentcustomerid_contact"),
        **_OWNER,
        **_SYSTEM,
        **_ACTIVE,
    },
)
_ACCOUNT = Table(
    entity_set="accounts",
    logical_name="account",
    primary_key="accountid",
    primary_name="name",
    states=_ACTIVE_STATES,
    keys={"wa_accountnumberkey": AlternateKey(("accountnumber",))},
    columns={
        "accountid": Column(kind=Kind.UNIQUEIDENTIFIER),
        "name": _text(160),
        "accountnumber": _text(20),
        "emailaddress1": _text(100),
        "telephone1": _text(50),
        "donotphone": _yes_no(),
        "donotemail": _yes_no(),
        "description": _memo(2000),
        "primarycontactid": _lookup(contacts="primarycontactid"),
        **_OWNER,
        **_SYSTEM,
        **_ACTIVE,
    },
)
_QUEUE = Table(
    entity_set="queues",
    logical_name="queue",
    primary_key="queueid",
    primary_name="name",
    states=_ACTIVE_STATES,
    columns={
        "queueid": Column(kind=Kind.UNIQUEIDENTIFIER),
        "name": _text(200),
        "description": _memo(2000),
        "emailaddress": _text(100),
        **_OWNER,
        **_SYSTEM,
        **_ACTIVE,
    },
)
_QUEUEITEM = Table(
    entity_set="queueitems",
    logical_name="queueitem",
    primary_key="queueitemid",
    primary_name="title",
    states=_ACTIVE_STATES,
    columns={
        "queueitemid": Column(kind=Kind.UNIQUEIDENTIFIER),
        "title": _text(300),
        "enteredon": _read_only(Kind.DATETIME),
        "queueid": _lookup(queues="queueid"),
        "objectid": _lookup(
            phonecalls="objectid_phonecall", tasks="objectid_task", wa_callqueues="objectid_wa_callqueue"
        ),
        "workerid": _lookup(systemusers="workerid_systemuser", teams="workerid_team"),
        **_OWNER,
        **_SYSTEM,
        **_ACTIVE,
    },
)

DEFAULT_SCHEMA = Schema(
    [
        _PHONECALL,
        _TASK,
        _ACTIVITY_PARTY,
        _CALL_QUEUE,
        _SYSTEMUSER,
        _TEAM,
        _CONTACT,
        _ACCOUNT,
        _QUEUE,
        _QUEUEITEM,
    ]
)
"""The schema of a simulator that is given no other."""
