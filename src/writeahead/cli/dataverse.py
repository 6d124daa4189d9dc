"""The commands about a Dataverse environment."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from writeahead._extras import requires_extra
from writeahead.cli import options, render
from writeahead.cli.context import CommandContext
from writeahead.cli.exit_code import ExitCode
from writeahead.cli.new_file import refuse_existing, write_new_file
from writeahead.cli.output import Answer
from writeahead.errors import InvalidInput

__all__ = ["approve", "discover", "doctor"]


@options.with_context(store=False)
def discover(
    *,
    kind: Annotated[
        list[str] | None,
        typer.Option(
            "--kind", metavar="KIND=TABLE", help="Map a named kind, e.g. task=task. Can be repeated."
        ),
    ] = None,
    table: Annotated[
        list[str] | None,
        typer.Option(
            "--table", metavar="TABLE", help="A table's logical name, e.g. account. Can be repeated."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="The file to write; by default stdout.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    context: CommandContext,
) -> Answer:
    """Write a mapping file from an environment's tables."""
    with requires_extra("writeahead dataverse", "dataverse"):
        from writeahead.adapters.dataverse import adapter_from_settings

    kinds = _pairs(kind or [])
    if out is not None:
        refuse_existing(out, force=force)
    with adapter_from_settings(**_settings(context)) as adapter:
        text = adapter.discover(kinds, table or [])
    if out is not None:
        write_new_file(out, text, force=force)
        return Answer(lambda: {"file": str(out)}, lambda console: render.show_file(console, out))
    return Answer(lambda: {"mapping": text}, lambda console: console.print(text, end=""))


@options.with_context(store=False)
def doctor(
    *,
    write_probe: Annotated[
        str | None,
        typer.Option(
            "--write-probe",
            metavar="TABLE",
            help="Also make, change and remove a row of this table of the mapping, e.g. tables.account.",
        ),
    ] = None,
    context: CommandContext,
) -> Answer:
    """Tell what a first run would meet in an environment."""
    with requires_extra("writeahead dataverse", "dataverse"):
        from writeahead.adapters.dataverse import adapter_from_settings

    with adapter_from_settings(**_settings(context)) as adapter:
        findings = list(adapter.doctor(write_probe))
    ok = all(finding.level != "problem" for finding in findings)
    return Answer(
        lambda: {"ok": ok, "findings": [asdict(finding) for finding in findings]},
        lambda console: render.show_findings(
            console, [(item.level, item.subject, item.text) for item in findings], ok=ok
        ),
        lambda: ExitCode.OK if ok else ExitCode.FAILED,
    )


@options.with_context(store=False)
def approve(
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", show_default=False, help="The mapping file.")],
    by: Annotated[str, typer.Option("--by", metavar="NAME", help="Who has read it and approves it.")],
    context: CommandContext,
) -> Answer:
    """Approve a mapping file: write the name and a digest into it."""
    del context
    with requires_extra("writeahead dataverse", "dataverse"):
        from writeahead.adapters.dataverse import load_mapping
        from writeahead.adapters.dataverse.mapping.approval import approved_text

    before = load_mapping(file).approval
    if before.problem(str(file)) is not None or before.by != by:
        # As bytes: line ends stay as they are.
        text = approved_text(str(file), file.read_bytes().decode(), by)
        write_new_file(file, text, force=True)
    found = load_mapping(file).approval
    document = {"file": str(file), "approved_by": found.by, "approved_sha256": found.approved}
    return Answer(
        lambda: document,
        lambda console: console.print(f"{file} is approved by {found.by}\nsha256 {found.approved}"),
    )


def _settings(context: CommandContext) -> Mapping[str, Any]:
    settings = context.settings
    chosen = settings.adapter if settings.aliases.get(settings.adapter or "") == "dataverse" else "dataverse"
    return settings.adapter_settings(chosen)


def _pairs(given: list[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for pair in given:
        kind, _, table = pair.partition("=")
        if not kind or not table:
            raise InvalidInput("--kind: write --kind KIND=TABLE, e.g. --kind task=task")
        if kind in pairs:
            raise InvalidInput(f"--kind {kind} is given twice")
        pairs[kind] = table
    return pairs
