"""The tables `random_routing` and `random_routing_epochs`, from every set that holds trained vision transformers."""

from pathlib import Path

from moe_replay.analysis.reading.inputs import Inputs
from moe_replay.analysis.reading.log_sets import VISION, VISION_EPOCHS, VISION_TIMES, LogSet
from moe_replay.analysis.tables.random_routing import rows as random_routing
from moe_replay.analysis.tables.random_routing.claim import random_routing_claim
from moe_replay.analysis.written_tables import hole_row, holes, write_claims, write_tables

NAME = "random_routing"


def build_random_routing(inputs: Inputs, out: Path) -> list[str]:
    """Write both tables and the claim. A set without vision logs is left out; none at all is a hole."""
    rows: list[dict] = []
    epochs: list[dict] = []
    for log_set in inputs.of_images:
        if (log_set.folder / VISION).exists():
            made, by_epoch = set_rows(inputs, log_set)
            rows += made
            epochs += by_epoch
    rows = rows or [hole_row("all sets", None, f"no set holds {VISION}")]
    used = {**inputs.used(VISION), **inputs.used(VISION_EPOCHS), **inputs.used(VISION_TIMES)}
    written = write_tables(out, {NAME: rows, f"{NAME}_epochs": epochs}, used)
    write_claims(out, {NAME: random_routing_claim(written[NAME])})
    return holes(written[NAME])


def set_rows(inputs: Inputs, log_set: LogSet) -> tuple[list[dict], list[dict]]:
    """Return (results, accuracies by epoch) of one set; a file that is absent or cannot be read keeps a row."""
    results, no_results = inputs.read(log_set, VISION, random_routing.read_results)
    times, no_times = inputs.read(log_set, VISION_TIMES, random_routing.read_times)
    epochs, no_epochs = inputs.read(log_set, VISION_EPOCHS, random_routing.read_epochs)
    rows = random_routing.result_rows(log_set.name, results, times) if results is not None else []
    rows += [hole_row(log_set.name, None, reason) for reason in (no_results, no_times, no_epochs) if reason]
    return rows, random_routing.epoch_rows(log_set.name, epochs) if epochs is not None else []
