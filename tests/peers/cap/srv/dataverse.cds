// The tables of the default mapping, as far as SAP CAP can serve them as Dataverse does: the same path, names and
// keys, and a version that each write changes.

@path: '/api/data/v9.2'
service Dataverse {
  entity phonecalls : activity {
    phonenumber           : String(200);
    directioncode         : Boolean;
    actualdurationminutes : Integer;
    wa_outcome            : Integer;
    category              : String(250);
    regardingobjectid_contact_phonecall : Association to contacts;
    // As Dataverse shows a lookup.
    _regardingobjectid_value : UUID = regardingobjectid_contact_phonecall.contactid;
    phonecall_activity_parties : Composition of many activityparties on phonecall_activity_parties._activityid_value = activityid;
  }

  // Addresses alone: who stands behind a lookup of several tables has no name in CAP.
  entity activityparties {
    key activitypartyid  : UUID;
    participationtypemask : Integer;
    addressused           : String(320);
    _activityid_value     : UUID;
    _partyid_value        : UUID;
  }

  entity tasks : activity {
    category      : String(250);
    prioritycode  : Integer;
    wa_email      : String(100);
    wa_reasoncode : Integer;
    regardingobjectid_contact_task : Association to contacts;
    // As Dataverse shows a lookup.
    _regardingobjectid_value : UUID = regardingobjectid_contact_task.contactid;
  }

  entity contacts : versioned {
    key contactid : UUID;
    fullname      : String(200);
  }

  entity wa_callqueues : versioned {
    key wa_callqueueid    : UUID;
    statecode             : Integer default 0;
    wa_name               : String(200);
    wa_phonenumber        : String(200);
    wa_status             : Integer;
    wa_lastoutcome        : Integer;
    wa_attempts           : Integer;
    wa_nextattempton      : DateTime;
    wa_lastcallon         : DateTime;
    wa_email              : String(100);
    wa_donotcall          : Boolean;
    wa_donotcallreason    : Integer;
    wa_donotcallon        : DateTime;
    wa_notes              : String(2000);
    wa_reasoncode         : Integer;
    wa_lastsession        : String(128);
    wa_lastoperation      : String(128);
    wa_warnings           : String(2000);
  }
}

aspect versioned {
  createdon : Timestamp @cds.on.insert: $now;
  @odata.etag modifiedon : Timestamp @cds.on.insert: $now @cds.on.update: $now;
}

aspect activity : versioned {
  key activityid : UUID;
  subject        : String(200);
  description    : String(2000);
  scheduledend   : DateTime;
  actualstart    : DateTime;
  actualend      : DateTime;
  wa_sessionid   : String(128);
  wa_operationid : String(128);
  wa_warnings    : String(2000);
}
