"""Completion in a shell: what Tab offers for a session id and for an adapter.

Typer writes the shell's script (``--show-completion``, ``--install-completion``). The script starts
the command with `COMPLETION_VARIABLE` set, once for each Tab. So what is offered here is bounded,
quick, and silent about everything that is wrong: the command itself will say it.
"""

import contextlib
import os
import re
import threading
from collections.abc import Iterator, MutableMapping
from itertools import islice
from typing import Any

__all__ = ["COMPLETION_VARIABLE", "adapter_names", "complete", "session_ids"]

COMPLETION_VARIABLE = "_WRITEAHEAD_COMPLETE"
# Seconds until Tab gives up on a store that does not answer; how many keys and ids are looked at.
_PATIENCE = 2.0
_MOST_KEYS = 2000
_MOST_IDS = 100
# Shells evaluate what is offered, and bash splits words at a colon.
_PLAIN = re.compile(r"[A-Za-z0-9._-]+")


def complete(command: Any) -> int:
    """Answer the shell's question, which is in the environment, on stdout; return the exit code."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):  # noqa: PTH123
        try:
            if "COMP_WORDS" in os.environ:
                _rejoin_words(os.environ)
            command.main(args=[], prog_name="writeahead", standalone_mode=False)
        except SystemExit as end:
            return int(end.code or 0)
        except Exception:  # noqa: BLE001 - a shell would print it in the middle of the line
            return 1
    return 0


def _rejoin_words(environ: MutableMapping[str, str]) -> None:
    """Undo that bash splits ``--store=s3://bucket`` at ``=`` and ``:``, up to the cursor's word.

    See COMP_WORDBREAKS in bash(1). The script passes the words on separate lines.
    """
    words, position = environ["COMP_WORDS"].split("\n"), int(environ["COMP_CWORD"])
    before: list[str] = []
    is_split = False
    for word in words[:position]:
        is_break = bool(word) and set(word) <= {"=", ":"}
        if before and (is_break or is_split):
            before[-1] += word
        else:
            before.append(word)
        is_split = is_break
    if before and words[position:] != ["="]:
        # The value is at the cursor, and Typer takes it from there.
        before[-1] = before[-1].removesuffix("=")
    environ["COMP_WORDS"] = "\n".join([*before, *words[position:]])
    environ["COMP_CWORD"] = str(len(before))


def session_ids(ctx: Any, incomplete: str) -> list[str]:
    """Offer the unfinished sessions of the store that flags and settings name; of `show`, all."""
    found: list[str] = []
    finds = threading.Thread(
        target=_collect, args=(found, ctx.params, incomplete, ctx.info_name == "show"), daemon=True
    )
    finds.start()
    finds.join(_PATIENCE)
    return sorted(set(found[:_MOST_IDS]))


def adapter_names(ctx: Any, incomplete: str) -> list[str]:
    """Offer the installed adapters, and the short names of the settings file."""
    from writeahead.adapters.registry import installed_adapters

    names = {*installed_adapters()}
    with contextlib.suppress(Exception):
        names |= {*_settings(ctx.params).aliases}
    return sorted(name for name in names if name.startswith(incomplete) and _PLAIN.fullmatch(name))


def _settings(params: dict[str, Any]) -> Any:
    from writeahead.cli.settings import load_settings

    return load_settings(environ=os.environ, config=params.get("config"), store=params.get("store"))


def _collect(found: list[str], params: dict[str, Any], incomplete: str, everything: bool) -> None:  # noqa: FBT001
    with contextlib.suppress(Exception):
        for session_id in _listed(params, incomplete, everything=everything):
            found.append(session_id)
            if len(found) == _MOST_IDS:
                return


def _listed(params: dict[str, Any], incomplete: str, *, everything: bool) -> Iterator[str]:
    from writeahead.protocol.finding import unfinished_sessions
    from writeahead.protocol.keys import is_session_id
    from writeahead.stores.registry import open_store

    store = open_store(_settings(params).require_store())
    for session_id in unfinished_sessions(store):
        if session_id.startswith(incomplete):
            yield session_id
    if everything and (not incomplete or is_session_id(incomplete)):
        keys = (info.key for info in islice(store.list(incomplete), _MOST_KEYS))
        yield from dict.fromkeys(
            name for name, slash, _ in (key.partition("/") for key in keys) if slash and is_session_id(name)
        )
