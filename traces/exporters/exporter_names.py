"""The table of exporters: a new kind is one new module and one entry here.

A module has SUFFIXES, which of `Subject.facts` its files keep (KEEPS), and `write`.
"""

from pathlib import Path

from moe_replay.traces.errors import InputError, unknown_name
from moe_replay.traces.exporters import eplb, npz, sglang, tensorrt_llm
from moe_replay.traces.exporters.export_subject import Subject

EXPORTERS = {"eplb": eplb, "npz": npz, "sglang": sglang, "tensorrt-llm": tensorrt_llm}


def export(kind: str, subject: Subject, path: Path) -> list[str]:
    """Write what a kind reads, and return what of it does not come back; an option in brackets says it again.

    InputError for an unknown kind, another suffix, or what the kind cannot hold.
    """
    if kind not in EXPORTERS:
        raise unknown_name("kind", kind, EXPORTERS)
    suffixes = EXPORTERS[kind].SUFFIXES
    if path.suffix not in suffixes:
        known = ", ".join(suffix or "a folder" for suffix in suffixes)
        raise InputError(f"{path}: {kind} writes {known}")
    EXPORTERS[kind].write(subject, path)
    return [fact for fact in subject.facts if fact not in EXPORTERS[kind].KEEPS]
