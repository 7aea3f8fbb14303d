"""The table of families in collect/README.md: every model type tiny, recorded, held against its experts' own calls.

    python tests/collect/huggingface/family_table.py           # builds all (a minute or two) and prints the table
    python tests/collect/huggingface/family_table.py --write   # and writes it between the markers in collect/README.md

For every model type of the installed transformers that has MoE routers: the tiny model of `tiny_models`, two prompts
with three new tokens each, recorded one by one, beside each other and with all scores. `experts_oracle` says what the
experts were really given. A row tells how many selections were compared; one that differs ends the script.
"""

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from experts_oracle import Given
from tiny_models import declaring, model_types, tiny_model

from moe_replay.collect.huggingface.collector import record_prompts
from moe_replay.collect.huggingface.generation import Plan
from moe_replay.collect.huggingface.prompts import Prompt
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.trace_file import load_trace
from moe_replay.traces.selections import Trace

README = Path(__file__).resolve().parents[3] / "collect" / "README.md"
BEGIN, END = "<!-- families -->\n", "<!-- /families -->\n"
COLUMNS = ("model type", "router", "scores", "candidates", "weights", "selections compared")
PROMPTS = [Prompt((5, 6, 7, 8, 9)), Prompt((20, 21, 22))]
NEW_TOKENS, PROBES = 3, 1
PARTS = {"Seq2SeqLM": ("encoder", "decoder"), "jetmoe": ("mlp", "attention")}
# The word in the names of a part's modules of experts.
PLACES = {
    None: "", "encoder": r"(^|\.)encoder\.", "decoder": r"(^|\.)decoder\.", "mlp": r"\.mlp$", "attention": "attention",
}  # fmt: skip


@dataclass(frozen=True)
class Family:
    """A row: a model type, its part where it has two, and its other columns; `refused` in their place."""

    name: str
    columns: tuple[str, ...] = ()
    refused: str = ""

    @property
    def line(self) -> str:
        """The row in Markdown."""
        cells = (self.name, *self.columns) if self.columns else (self.name, f"not recorded: {self.refused}", *[""] * 4)
        return f"| {' | '.join(cells)} |"


def families(model_type: str) -> list[Family]:
    """The rows of a model type: one, or one of each part."""
    parts = PARTS.get(model_type) or PARTS.get(model_types()[model_type]) or (None,)
    rows = []
    for part in parts:
        name = f"`{model_type}`" + (f", {part}" if part else "")
        try:
            rows.append(Family(name, checked(model_type, part)))
        except InputError as error:
            rows.append(Family(name, refused=str(error).replace("|", "/")))
    return rows


def checked(model_type: str, part: str | None) -> tuple[str, ...]:
    """The columns behind the name, after what was recorded was found to be what ran; InputError where it is refused."""
    model = tiny_model(model_type)
    with Given(model) as given:
        trace = recorded(model, Plan(1, NEW_TOKENS, part=part))
    compared = same(trace, given.tokens(PLACES[part], PROBES))
    beside = recorded(tiny_model(model_type), Plan(len(PROMPTS), NEW_TOKENS, part=part))
    assert (by_sequence(beside) == by_sequence(trace)).all(), f"{model_type}: a prompt beside another is another"
    try:
        whole = recorded(tiny_model(model_type), Plan(1, NEW_TOKENS, part=part, candidates="all"))
    except InputError:
        whole = None  # experts have a capacity
    own = trace.header.model.used_k
    if whole is not None:
        assert trace.header.model.experts == whole.K, model_type
        assert (whole.experts_TLK[:, :, :own] == trace.experts_TLK[:, :, :own]).all(), model_type
    header = trace.header
    order = "the chosen" if whole is None else "ranked" if whole.header.ranked else "chosen first"
    weights, _, of = header.gate_rule.partition(": ")
    return header.notes["router"], header.score_kind, order, weights if not of else "its own", f"{compared:,}"


def recorded(model: torch.nn.Module, plan: Plan) -> Trace:
    """The trace of the prompts."""
    with tempfile.TemporaryDirectory() as folder:
        data, out = Path(folder) / "prompts.jsonl", Path(folder) / "x.trace.parquet"
        data.write_text("{}")
        record_prompts(model, "tiny", PROMPTS, data, plan, out)
        return load_trace(out)


def by_sequence(trace: Trace) -> np.ndarray:
    """The chosen experts of all tokens, sequence by sequence."""
    order_T = np.lexsort((trace.position_T, trace.sequence_T))
    return trace.experts_TLK[order_T][:, :, : trace.header.model.used_k]


def same(trace: Trace, given: dict[int, list[set[int]]]) -> int:
    """The selections compared: of every layer and token the experts that were recorded and those that were given."""
    assert tuple(given) == trace.header.model.layer_ids, (
        f"layers {tuple(given)}, recorded {trace.header.model.layer_ids}"
    )
    compared = 0
    for layer, tokens in enumerate(given.values()):
        assert len(tokens) == trace.T, f"{len(tokens)} tokens, recorded {trace.T}"
        for row, ran in enumerate(tokens):
            chosen = trace.experts_TLK[row, layer, : trace.header.model.used_k].tolist()
            assert {expert for expert in chosen if 0 <= expert < trace.E} == ran, (row, layer, chosen, ran)
            compared += len(chosen)
    return compared


def table(rows: list[Family]) -> str:
    """The table in Markdown, before it its sums, behind it the modules that have no row."""
    import transformers

    named = {row.name.split("`")[1] for row in rows}
    held = sum(bool(row.columns) for row in rows)
    without = sorted(declaring() - {module_of(name) for name in named})
    return "\n".join([
        f"transformers {transformers.__version__}: {len(named)} model types, {held} of {len(rows)} rows recorded.", "",
        f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|",
        *(row.line for row in sorted(rows, key=lambda row: row.name.split("`"))), "",
        f"Without a class that generates text: {', '.join(without) or 'none'}.", "",
    ])  # fmt: skip


def module_of(model_type: str) -> str:
    """The module of transformers that a model type is in."""
    from transformers.models.auto.configuration_auto import model_type_to_module_name

    return model_type_to_module_name(model_type)


def main() -> None:
    """Build all, print the table, and write it where that is asked for."""
    torch.set_num_threads(1)
    rows = []
    for number, model_type in enumerate(model_types(), 1):
        print(f"{number} of {len(model_types())}: {model_type}", file=sys.stderr, flush=True)
        rows += families(model_type)
    text = table(rows)
    print(text)
    if "--write" in sys.argv[1:]:
        before, _, rest = README.read_text().partition(BEGIN)
        README.write_text(before + BEGIN + text + END + rest.partition(END)[2])


def written() -> list[str]:
    """The lines of the table as they are in collect/README.md."""
    return README.read_text().partition(BEGIN)[2].partition(END)[0].splitlines()


if __name__ == "__main__":
    main()
