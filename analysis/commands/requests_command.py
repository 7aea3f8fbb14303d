"""`python -m analysis requests`: parses, reads, calls, writes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from moe_replay.analysis.printing import print_table
from moe_replay.analysis.tables.request_times import Targets, highest_said, request_times, shown_requests
from moe_replay.analysis.written_tables import WHOLE_HELP, check_whole, write_whole
from moe_replay.traces.command_line.command import Force
from moe_replay.traces.command_line.option_groups import grouped
from moe_replay.traces.command_line.units import time_in
from moe_replay.traces.runs.request_table import read_requests, system_of
from moe_replay.traces.runs.time_statistics import PERCENTILES


@dataclass(frozen=True)
class TargetOptions:
    """What times have to keep."""

    ttft: Annotated[float | None, time_in("ms").option(low=1, help="Most time to the first token.")] = None
    tpot: Annotated[float | None, time_in("ms").option(low=1, help="Most time per token behind the first.")] = None
    at: Annotated[str, typer.Option(help=f"Which of their times keep it: {', '.join(PERCENTILES)}.")] = "p95"


@grouped
def requests_command(
    table_path: Annotated[Path, typer.Argument(metavar="TABLE", help="Requests of `simulate compose --requests`.")],
    targets: TargetOptions,
    out: Annotated[Path | None, typer.Option(metavar="TABLE.csv", help=WHOLE_HELP)] = None,
    force: Force = False,
) -> None:
    """Times to the first token (TTFT) and per further token (TPOT) by arrival rate, with intervals over seeds.

    With a target the highest rate is named that keeps it, as all lower ones do.

    Example: `python -m analysis requests served.csv --ttft 200ms --tpot 50ms --at p95`
    """
    check_whole(out, [table_path], force)
    asked = Targets(targets.ttft, targets.tpot, targets.at)
    table = request_times(read_requests(table_path), asked)
    write_whole(table, out, [table_path], force)
    print_table(shown_requests(table))
    for line in highest_said(table, asked, system_of(table_path)):
        print(line)
