"""The report as a file: it says which command made it, and whether somebody changed it since."""

import hashlib
import json
import re
from pathlib import Path

from moe_replay.traces.command_line.outputs import compared
from moe_replay.traces.command_line.provenance import running_command, shortened

MADE = re.compile(r'<script type="application/json" id="provenance">(.*?)</script>', re.DOTALL)
SEAL = "\n<!-- sha256 of all above: {} -->\n"
SEALED = len(SEAL.format("0" * 64).encode())


def sealed(page: str) -> bytes:
    """Return a page with its digest as the last line."""
    content = page.encode()
    return content + SEAL.format(hashlib.sha256(content).hexdigest()).encode()


def is_report(path: Path) -> bool:
    """Say whether a file is a report by the running command that nobody changed since: it may be brought up to date."""
    content = path.read_bytes()
    page, seal = content[:-SEALED], content[-SEALED:]
    if seal != SEAL.format(hashlib.sha256(page).hexdigest()).encode():
        return False
    found = MADE.search(page.decode(errors="replace"))
    made = json.loads(found[1]) if found else {}
    return compared(str(made.get("command")), ()) == compared(shortened(running_command()), ())
