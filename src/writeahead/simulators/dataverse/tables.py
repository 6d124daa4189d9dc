"""The tables of the simulated organization. A new table needs a description here, no more.

``phonecall``, ``task``, ``activitypointer``, ``queueitem``, ``contact``, ``account`` and
``incident`` are as Microsoft publishes them (see `reference`). ``systemuser``, ``team`` and
``queue`` hold a few columns of the same reference. Columns and tables that start with ``wa_`` are
the customization of an outbound-call service.

Names of navigation properties: the Web API reference of each table ("phonecall EntityType" and so
on), learn.microsoft.com.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from writeahead.simulators.dataverse.choices import OUTCOMES, QUEUE_STATUSES, REASONS
from writeahead.simulators.dataverse.parties import PARTICIPATION
from writeahead.simulators.dataverse.reference import published_table
from writeahead.simulators.dataverse.schema import AlternateKey, Column, Kind, Schema, Table

__all__ = [
    "DEFAULT_SCHEMA",
    "OUTCOMES",
    "QUEUE_STATUSES",
    "REASONS",
]


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


def _read_only(kind: Kind) -> Column:
    return Column(kind=kind, creatable=False, updatable=False)


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
# As every published table with states has them, those of solutions included, such as
# msdyn_knowledgearticletemplate: a state is not valid for create.
_ACTIVE = {
    "statecode": Column(
        kind=Kind.STATE,
        options={0: "Active", 1: "Inactive"},
        default=0,
        creatable=False,
        required="SystemRequired",
    ),
    "statuscode": Column(kind=Kind.STATUS, options={1: "Active", 2: "Inactive"}, default=1),
}
_ACTIVE_STATES = {0: (1,), 1: (2,)}


def _standard(
    name: str,
    *,
    columns: Mapping[str, Column] | None = None,
    navigation: Mapping[str, Mapping[str, str]],
    changes: Mapping[str, Mapping[str, Any]] | None = None,
    **table: Any,
) -> Table:
    """A published table with a customization.

    Args:
        name: Its logical name.
        columns: Further columns.
        navigation: The navigation properties of lookups, by entity set.
        changes: Fields of published columns.
        table: Fields of the table.
    """
    published = published_table(name)
    changed = {column: dict(fields) for column, fields in (changes or {}).items()}
    for column, names in navigation.items():
        changed.setdefault(column, {})["navigation"] = names
    own = {column: replace(published.columns[column], **fields) for column, fields in changed.items()}
    return replace(published, columns={**published.columns, **own, **(columns or {})}, **table)


_OWNERS = {"systemusers": "ownerid", "teams": "ownerid"}


def _activity(name: str, columns: Mapping[str, Column]) -> Table:
    regarding = {
        "contacts": "contact",
        "accounts": "account",
        "incidents": "incident",
        "wa_callqueues": "wa_callqueue",
    }
    return _standard(
        name,
        activity=True,
        navigation={
            "regardingobjectid": {
                entity_set: f"regardingobjectid_{target}_{name}" for entity_set, target in regarding.items()
            },
            "ownerid": _OWNERS,
        },
        changes={
            "activitytypecode": {"default": name},
            # The table reference has no defaults of choices. A new activity is of normal priority.
            "prioritycode": {"default": 1},
        },
        columns={
            # These say which operation wrote the row, to a read-back after an unknown outcome.
            "wa_sessionid": _text(128),
            "wa_operationid": _text(200),
            "wa_outcome": _choice(OUTCOMES),
            "wa_reasoncode": _choice(REASONS),
            **columns,
        },
    )


_PHONECALL = _activity("phonecall", {})
_TASK = _activity("task", {"wa_email": _text(100)})
_ACTIVITYPOINTER = _standard("activitypointer", navigation={}, definition_only=True)
_ACTIVITY_PARTY = Table(
    entity_set="activityparties",
    logical_name="activityparty",
    primary_key="activitypartyid",
    primary_name="addressused",
    list_only=True,
    columns={
        "activitypartyid": Column(kind=Kind.UNIQUEIDENTIFIER),
        "activityid": _lookup(phonecalls="activityid_phonecall", tasks="activityid_task"),
        "partyid": _lookup(
            accounts="partyid_account",
            contacts="partyid_contact",
            queues="partyid_queue",
            systemusers="partyid_systemuser",
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
_CONTACT = _standard(
    "contact",
    navigation={
        "parentcustomerid": {"accounts": "parentcustomerid_account", "contacts": "parentcustomerid_contact"},
        "preferredsystemuserid": {"systemusers": "preferredsystemuserid"},
        "ownerid": _OWNERS,
    },
    # "First name, last name": the order is a setting of the organization
    # (organization.fullnameconventioncode).
    changes={"fullname": {"joined": ("firstname", "lastname")}},
)
_ACCOUNT = _standard(
    "account",
    navigation={
        "primarycontactid": {"contacts": "primarycontactid"},
        "parentaccountid": {"accounts": "parentaccountid"},
        "preferredsystemuserid": {"systemusers": "preferredsystemuserid"},
        "ownerid": _OWNERS,
    },
    keys={"wa_accountnumberkey": AlternateKey(("accountnumber",))},
)
_INCIDENT = _standard(
    "incident",
    navigation={
        "customerid": {"accounts": "customerid_account", "contacts": "customerid_contact"},
        "primarycontactid": {"contacts": "primarycontactid"},
        "responsiblecontactid": {"contacts": "responsiblecontactid"},
        "parentcaseid": {"incidents": "parentcaseid"},
        "ownerid": _OWNERS,
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
_QUEUEITEM = _standard(
    "queueitem",
    navigation={
        "queueid": {"queues": "queueid"},
        "objectid": {
            "phonecalls": "objectid_phonecall",
            "tasks": "objectid_task",
            "incidents": "objectid_incident",
            "wa_callqueues": "objectid_wa_callqueue",
        },
        "workerid": {"systemusers": "workerid_systemuser", "teams": "workerid_team"},
    },
)

DEFAULT_SCHEMA = Schema(
    [
        _PHONECALL,
        _TASK,
        _ACTIVITYPOINTER,
        _ACTIVITY_PARTY,
        _CALL_QUEUE,
        _SYSTEMUSER,
        _TEAM,
        _CONTACT,
        _ACCOUNT,
        _INCIDENT,
        _QUEUE,
        _QUEUEITEM,
    ]
)
"""The schema of a simulator that is given no other."""
