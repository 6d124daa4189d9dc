"""What must not be shown: values whose name says so, and credentials inside of URLs."""

import math
import re
from collections.abc import Mapping
from typing import Any

__all__ = ["HIDDEN", "is_secret_name", "without_secrets"]

HIDDEN = "***"
_SECRET = re.compile(r"(^|_)(secret|password|passwd|token|api_?key|access_?key|private_?key)$", re.IGNORECASE)
# More is hidden than a file is refused for: other spellings, what signs a URL (AWS, Azure, Google),
# and texts that hold a password among other things.
_HIDDEN_NAME = re.compile(
    r"(secret|passw(or)?d|passphrase|token|key|credentials?|connection_?string|dsn|authorization|sas|sig(nature)?)$",
    re.IGNORECASE,
)
# The user and the password may be anything that a hurried hand pastes there, slashes included.
_USER = re.compile(r"(?<=://)([^/@?#\s]*|[^:@?#\s]*:[^@?#\s]*)@")
_OPTION = re.compile(r"(?<=[?&;])([^=&;#\s]+)=([^&;#\s]*)")


def is_secret_name(name: str) -> bool:
    """Tell whether a setting of this name holds a secret."""
    return _SECRET.search(name) is not None


def without_secrets(value: Any, name: str = "") -> Any:
    """Return a setting's value as it may be shown, and as JSON can hold it.

    Args:
        value: The value. What JSON has no form for, e.g. a date of TOML, becomes text.
        name: The setting's name.
    """
    if _HIDDEN_NAME.search(name):
        return HIDDEN
    if isinstance(value, Mapping):
        return {key: without_secrets(item, key) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_secrets(item) for item in value]
    if value is None or isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return _shown_url(str(value))


def _shown_url(text: str) -> str:
    if "://" not in text:
        return text
    text = _USER.sub(f"{HIDDEN}@", text)
    return _OPTION.sub(
        lambda found: f"{found[1]}={HIDDEN}" if _HIDDEN_NAME.search(found[1]) else found[0], text
    )
