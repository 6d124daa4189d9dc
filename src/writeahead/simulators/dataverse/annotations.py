"""Details of an error that a client can ask for with ``Prefer: odata.include-annotations``.

Source: "Compose HTTP requests and handle errors" ("Request annotations", "Include more details with
errors"), learn.microsoft.com. Of the five annotations there, two are of every error: a link to help
and the inner message, which is that of the error again. The others are what a plug-in set or traced
(OperationStatus, SubErrorCode, TraceText), and no plug-in runs within a request here.
"""

import fnmatch
import re

__all__ = ["error_annotations"]

_PREFERENCE = re.compile(r"odata\.include-annotations\s*=\s*(?:\"(?P<quoted>[^\"]*)\"|(?P<bare>[^,;\s]+))")
_HELP = "http://go.microsoft.com/fwlink/?LinkID=398563&error=Microsoft.Crm.CrmException%3a{}&client=platform"


def error_annotations(code: str, message: str, prefer: str) -> dict[str, str]:
    """The annotations of an error that a request prefers, as properties beside code and message.

    Args:
        code: The error's, such as ``0x80040217``.
        message: The error's.
        prefer: The Prefer header. Names are separated by commas, and may have ``*`` in them.
    """
    found = _PREFERENCE.search(prefer)
    if found is None:
        return {}
    wanted = [name.strip() for name in (found["quoted"] or found["bare"] or "").split(",")]
    annotations = {
        "Microsoft.PowerApps.CDS.HelpLink": _HELP.format(code.removeprefix("0x")),
        "Microsoft.PowerApps.CDS.InnerError.Message": message,
    }
    return {
        f"@{name}": value
        for name, value in annotations.items()
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in wanted)
    }
