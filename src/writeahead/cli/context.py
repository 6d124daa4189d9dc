"""What a command works with: its settings, and the store and the adapter that they name."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from writeahead import _plugins
from writeahead.adapters.base import Adapter
from writeahead.adapters.registry import installed_adapters, open_adapter
from writeahead.cli.permissions import shared_folder
from writeahead.cli.settings import gather_settings, load_settings
from writeahead.cli.streams import say
from writeahead.errors import InvalidInput, NotFound
from writeahead.items import AdapterSpec
from writeahead.report.page import quoted
from writeahead.stores.base import ArtifactStore
from writeahead.stores.registry import open_store, shared_url

__all__ = ["CommandContext", "import_from_here"]


class CommandContext:
    """The settings of one command, and what they name.

    Args:
        config: The flag ``--config``.
        store: The flag ``--store``.
        adapter: The flag ``--adapter``.
        checked: Whether wrong settings are an error, or for the command to look at.
        **policy: The flags that are fields of `RunPolicy`; None for a flag that was not given.

    Attributes:
        settings: Flags, environment and settings file together.

    Raises:
        InvalidInput: The settings can't be used.
    """

    def __init__(
        self,
        config: Path | None = None,
        store: str | None = None,
        adapter: str | None = None,
        *,
        checked: bool = True,
        **policy: Any,
    ) -> None:
        self._flags = {"--config": config and str(config), "--store": store, "--adapter": adapter}
        self.settings = (load_settings if checked else gather_settings)(
            environ=os.environ, config=config, store=store, adapter=adapter, policy=policy
        )
        for warning in self.settings.warnings:
            say(f"warning: {warning}")

    def existing_store(self, *, missing_ok: bool | None = None, writing: bool = False) -> ArtifactStore:
        """Open the store of a command that looks for sessions.

        Args:
            missing_ok: Whether a store that is not there counts as an empty one; None for a command
                that has no such flag.
            writing: As in `store`.

        Raises:
            NotFound: Its folder or bucket is not there. A wrong path must not look like an empty
                store.
        """
        opened = self.store(writing=writing)
        if not missing_ok and not opened.exists():
            advice = "correct --store" if missing_ok is None else "correct --store, or add --missing-ok"
            raise NotFound(opened.name, "list", "", f"there is no such folder or bucket; {advice}")
        return opened

    def store(self, *, writing: bool = False) -> ArtifactStore:
        """Open the store.

        Args:
            writing: Whether the command will write to it: if so, a store in memory gets a warning,
                because it ends with the process.

        Raises:
            InvalidInput: No source gave a URL, or it can't be used.
        """
        url = self.settings.require_store()
        if writing and url.startswith("memory:"):
            say("warning: a memory store ends with this process, so nothing can be resumed later")
        with self._naming_the_source():
            return open_store(url)

    def shared_store(self) -> str:
        """Return the URL under which other processes open the store.

        Raises:
            InvalidInput: There is none, as of a store in memory.
        """
        with self._naming_the_source():
            return shared_url(self.settings.require_store())

    @contextlib.contextmanager
    def _naming_the_source(self) -> Iterator[None]:
        try:
            yield
        except InvalidInput as error:
            raise InvalidInput(f"{self.settings.sources['store']}: {error}") from error

    def adapter_spec(self) -> AdapterSpec:
        """Return the adapter as data, for another process to open.

        Raises:
            InvalidInput: No source gave one.
        """
        name = self.settings.require_adapter()
        target = self.settings.aliases.get(name, name)
        import_from_here(target)
        self._require_factory(name)
        return AdapterSpec(target, self.settings.adapter_settings())

    @contextlib.contextmanager
    def adapter(self) -> Iterator[Adapter]:
        """Open the adapter, and close it afterwards.

        The module of ``module:factory`` may be in the working directory.
        """
        name = self.settings.require_adapter()
        import_from_here(self.settings.aliases.get(name, name))
        self._require_factory(name)
        adapter = open_adapter(
            name,
            self.settings.adapter_settings(),
            aliases=self.settings.aliases,
            source=self.settings.sources["adapter"],
        )
        with adapter if isinstance(adapter, contextlib.AbstractContextManager) else contextlib.nullcontext():
            yield adapter

    def _require_factory(self, name: str) -> None:
        known = {*self.settings.aliases, *installed_adapters()}
        if ":" not in name and name not in known and name in self.settings.adapters:
            place = self.settings.sources["adapter"]
            raise InvalidInput(
                f'{place}: adapter {name!r}: its table [adapters.{name}] needs factory = "module:factory"'
            )

    def loaded(self, target: str, flag: str) -> object:
        """Import what a flag names as ``module:attribute``; its module may be in this folder.

        Raises:
            InvalidInput: It can't be imported.
        """
        import_from_here(target)
        return _plugins.load(target, f"{flag} {target}", f"{flag} my_module:function")

    def options(self) -> str:
        """Return the flags that any further command on this store needs."""
        return self._given("--config", "--store")

    def resume_options(self, planned_by: str | None = None) -> str:
        """Return the flags that a resume of a session needs.

        Args:
            planned_by: The name of the adapter that made the session's plan.
        """
        # ``--adapter`` takes an adapter's own name only if something has that name.
        declared = planned_by in self.settings.aliases or planned_by in installed_adapters()
        if self.settings.adapter and (not declared or planned_by == self.settings.adapter):
            return self._given("--config", "--store", "--adapter")
        known = planned_by if declared else "module:factory"
        return f"{self._given('--config', '--store')} --adapter {known}".lstrip()

    def _given(self, *names: str) -> str:
        return " ".join(f"{name} {quoted(value)}" for name in names if (value := self._flags[name]))


def import_from_here(target: str) -> None:
    """Let the module of ``module:factory`` be in the working directory.

    If other users may write there, a warning says so: settings are read from there, too.
    """
    with contextlib.suppress(OSError):  # the working directory may be deleted
        here = Path.cwd()
        if warning := shared_folder(here):
            say(f"warning: {warning}")
        if ":" in target and str(here) not in sys.path:
            sys.path.insert(0, str(here))
