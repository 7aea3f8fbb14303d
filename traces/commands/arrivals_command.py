"""`python -m traces arrivals`: a trace whose sequences arrive as the requests of a published log did."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from moe_replay.traces.command_line.command import Force
from moe_replay.traces.command_line.files import sha256_of
from moe_replay.traces.command_line.outputs import staged
from moe_replay.traces.command_line.provenance import provenance
from moe_replay.traces.command_line.units import COUNT
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.trace_file import load_trace, save_trace
from moe_replay.traces.request_arrivals import MATCHES, UNEVEN, Matched, at_speed, lengths_of, matched, with_arrivals
from moe_replay.traces.request_logs import FORMS, Requests, read_requests
from moe_replay.traces.selections import Trace


def arrivals_command(
    trace_path: Annotated[Path, typer.Argument(metavar="TRACE", help="the trace whose sequences are to arrive")],
    out: Annotated[Path, typer.Option(help="file to write, X.trace.parquet")],
    log: Annotated[Path | None, typer.Argument(help="requests and their times; none: the trace's own arrivals")] = None,
    form: Annotated[str | None, typer.Option("--from", help=f"form of the log: {', '.join(FORMS)}")] = None,
    match: Annotated[str, typer.Option(help=f"which sequence a request is: {', '.join(MATCHES)} length")] = "order",
    requests: Annotated[int | None, COUNT.option(low=1, help="take the first requests of the log")] = None,
    uneven: Annotated[
        str | None, typer.Option(help=f"more or fewer requests than sequences: {', '.join(UNEVEN)}")
    ] = None,
    speed: Annotated[float, typer.Option(help="load: requests come so many times as fast")] = 1.0,
    force: Force = False,
) -> None:
    """Set when a trace's sequences arrive, by a log of requests, at its own speed or a multiple of it.

    `simulate run --arrivals recorded` and `simulate compose --arrivals recorded` replay them.

    Example: `python -m traces arrivals mine.trace.parquet mooncake.jsonl --from mooncake --speed 2 --out
    busy.trace.parquet`
    """
    if (log is None) != (form is None):
        raise InputError("a log and --from: allowed both, or neither for the trace's own arrivals at another --speed")
    with staged(out, [trace_path, log], force) as written:
        trace = load_trace(trace_path)
        found, note, said = own_arrivals(trace) if log is None else by_log(trace, log, form, match, requests, uneven)
        found = Matched(found.index_G, at_speed(found.arrival_ns_G, speed), found.said)
        made = with_arrivals(trace, found, note | {"speed": speed})
        made = replace(made, header=replace(made.header, provenance=provenance()))
        save_trace(made, written)
    last_s = int(found.arrival_ns_G[-1]) / 1e9
    rate = f", {(made.S - 1) / last_s:.4g} per second" if last_s else ""
    print("\n".join(f"{out}: {each}" for each in (
        f"{made.S:,} sequences arrive within {last_s:.4g} s{rate}, {made.T:,} tokens, digest {made.digest}",
        *said, *found.said,
    )))  # fmt: skip


def own_arrivals(trace: Trace) -> tuple[Matched, dict, list[str]]:
    """Return a trace's own arrivals; InputError where it has none."""
    if trace.arrival_ns_S is None:
        raise InputError("the trace has no arrivals of its own; allowed: a log and --from")
    order_S, _, _ = lengths_of(trace)
    before = trace.header.notes.get("arrivals")
    note = {"before": before} if before else {}
    return Matched(order_S, trace.arrival_ns_S[order_S]), note, []


def by_log(
    trace: Trace, path: Path, form: str, match: str, count: int | None, uneven: str | None
) -> tuple[Matched, dict, list[str]]:
    """Return (requests and their sequences, what is noted of them, what is printed)."""
    held = read_requests(path, form)
    requests = held if count is None else held.first(count)
    _, prompt_S, decode_S = lengths_of(trace)
    said = [length_text(requests, prompt_S.mean(), decode_S.mean())]
    if held.sorted_here:
        said.append("the log was not in the order of time, and was sorted")
    if held.first_ns:
        said.append("times count from the first request")
    note = {"log": path.name, "form": form, "digest": sha256_of(path), "match": match}
    return matched(trace, requests, match, uneven), note, said


def length_text(requests: Requests, prompt: float, decode: float) -> str:
    """Return how long requests are in the log and in the trace."""
    logged = f"{requests.prompt_G.mean():.1f} prompt and {requests.generated_G.mean():.1f} generated tokens"
    return f"the log's requests have {logged} on average, the trace's sequences {prompt:.1f} and {decode:.1f} decoded"
