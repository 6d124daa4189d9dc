"""What a command works with: its settings, and the store and the adapter that they name."""

import contextlib
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from writeahead.adapters.base import Adapter
from writeahead.adapters.registry import installed_adapters, open_adapter
from writeahead.cli.settings import Settings, load_settings
from writeahead.cli.streams import say
from writeahead.stores.base import ArtifactStore
from writeahead.stores.registry import open_store

__all__ = ["CommandContext"]


class CommandContext:
    """The settings of one command, and what they name.

    Args:
        config: The flag ``--config``.
        store: The flag ``--store``.
        adapter: The flag ``--adapter``.
        **policy: The flags that are fields of `RunPolicy`.
    """

    def __init__(
        self,
        config: Path | None,
        store: str | None,
        adapter: str | None = None,
        **policy: Any,
    ) -> None:
        self._flags = {"--config": config and str(config), "--store": store, "--adapter": adapter}
        self.settings: Settings = load_settings(
            environ=os.environ, config=config, store=store, adapter=adapter, policy=policy
        )

    def store(self, *, writing: bool = False) -> ArtifactStore:
        """Open the store; warn if what is to be written to it will not outlive this process."""
        url = self.settings.require_store()
        if writing and url.startswith("memory:"):
            say("warning: a memory store ends with this process: nothing could be resumed afterwards")
        return open_store(url)

    @contextlib.contextmanager
    def adapter(self) -> Iterator[Adapter]:
        """Open the adapter, and close it afterwards; ``module:factory`` may be in the working directory."""
        name = self.settings.require_adapter()
        if ":" in name and (here := str(Path.cwd())) not in sys.path:
            sys.path.insert(0, here)
        adapter = open_adapter(name, self.settings.adapter_settings())
        with adapter if isinstance(adapter, contextlib.AbstractContextManager) else contextlib.nullcontext():
            yield adapter

    def options(self) -> str:
        """The flags that any further command on this store needs."""
        return self._given("--config", "--store")

    def resume_options(self, planned_by: str | None = None) -> str:
        """The flags that a resume of a session needs.

        Args:
            planned_by: The name of the adapter that made the session's plan.
        """
        given = self._given("--config", "--store", "--adapter")
        if self.settings.adapter:
            return given
        # An adapter's own name is what it can be asked for with only if it is installed under that
        # name.
        known = planned_by if planned_by in installed_adapters() else "module:factory"
        return f"{given} --adapter {known}".lstrip()

    def _given(self, *names: str) -> str:
        return " ".join(f"{name} {shlex.quote(value)}" for name in names if (value := self._flags[name]))
