"""Makes the tables of README.md and benchmarks/README.md from result.json.

python -m benchmarks.lost_reply.table
"""

import json
from collections import Counter
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BEGIN, END = "<!-- lost-reply: begin -->", "<!-- lost-reply: end -->"
HEAD = """\
| | scenarios | right, unattended | a duplicate | a loss | an edit overwritten | stuck | asks an operator |
| --- | --- | --- | --- | --- | --- | --- | --- |
"""
COLUMNS = ("scenarios", "right", "duplicate", "loss", "overwritten", "stuck", "asks")
OURS = "writeahead_folder"
PAIRS = f"{OURS}, "


def result() -> dict:
    """What was measured last."""
    return json.loads((HERE / "result.json").read_text())


def table_of(result: dict) -> str:
    """A row for each contender, ours first; last our pairs of faults."""
    parts = result["parts"]
    peers = sorted(
        (part for name, part in parts.items() if not name.startswith(OURS)),
        key=lambda part: part["name"].lower(),
    )
    lines = [_row(part["name"], part) for part in (parts[OURS], *peers)]
    lines.append(_row(f"{parts[OURS]['name']}, two faults each", {"counts": pairs_of(result)}))
    return HEAD + "".join(lines)


def pairs_of(result: dict) -> Counter[str]:
    """The counts of all parts with a second fault."""
    total: Counter[str] = Counter()
    for name, part in result["parts"].items():
        if name.startswith(PAIRS):
            total.update(part["counts"])
    return total


def details_of(result: dict) -> str:
    """The table, and below it what it was measured with."""
    versions = {
        package: number
        for part in result["parts"].values()
        for package, number in part.get("versions", {}).items()
    }
    named = ", ".join(f"{package} {number}" for package, number in sorted(versions.items()))
    kills = sum(part.get("counts", {}).get("kills", 0) for part in result["parts"].values())
    run = f"`{result['command']}`, {result['date']}, on {result['system']}"
    return f"{table_of(result)}\n{run}: {kills:,} of the scenarios have a real `kill -9`.\nWith {named}.\n"


def _row(name: str, part: dict) -> str:
    if "left_out" in part:
        return f"| {name} | left out: {part['left_out']} | | | | | | |\n"
    cells = " | ".join(f"{part['counts'].get(column, 0):,}" for column in COLUMNS)
    return f"| {name} | {cells} |\n"


def with_table(page: str, table: str) -> str:
    """A page with what stands between its marks replaced."""
    before, _, rest = page.partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise ValueError(f"the page has no {BEGIN} ... {END}")
    return f"{before}{BEGIN}\n{table}{END}{after}"


PAGES = {"README.md": table_of, "benchmarks/README.md": details_of}


def main() -> None:
    measured = result()
    for name, made in PAGES.items():
        page = ROOT / name
        page.write_text(with_table(page.read_text(), made(measured)))


if __name__ == "__main__":
    main()
