"""Makes docs/report.png, the picture of the HTML report: `nox -s web` runs this."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.web.demo_store import working_day
from tests.web.pages import STORE, report_of
from writeahead.report.html.render import render

ROOT = Path(__file__).parents[2]
SHOWN = ("call-2014", "call-2017", "call-2033", "call-2038", "call-2003", "call-1992")
LARGEST = 200_000


def main():
    """Draw it; the path of another file can be given."""
    picture = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "docs/report.png").resolve()
    report = report_of(working_day(), session_ids=SHOWN)
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "report.html")
        page.write_text(render(report.model_copy(update={"store": STORE, "asked": "all"})), "ascii")
        asked = {
            "url": page.as_uri(),
            "chromium": shutil.which("chromium") or shutil.which("google-chrome"),
            "modules": os.environ["WRITEAHEAD_WEB"],
            "width": 1120,
            "height": 1312,
            "steps": [
                ("click", "#s-call-2003 > summary"),
                ("evaluate", "document.activeElement.blur(); scrollTo(0, 0)"),
                ("shot", str(picture)),
            ],
        }
        command = ["node", str(Path(__file__).with_name("browser.mjs")), json.dumps(asked)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    size = picture.stat().st_size
    assert size <= LARGEST, f"{picture}: {size} bytes"
    print(f"{picture}: {size} bytes")


if __name__ == "__main__":
    main()
