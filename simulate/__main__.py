"""`python -m simulate`: what a recorded workload costs under another queue size, arrivals, placement or expert memory.

Every command has a module of its name in `commands`; each parses, reads, calls and writes.
"""

from moe_replay.simulate.commands.all_to_all_command import all_to_all_command
from moe_replay.simulate.commands.by_name import costs_command
from moe_replay.simulate.commands.compile_command import compile_command
from moe_replay.simulate.commands.compose_command import compose_command
from moe_replay.simulate.commands.end_to_end_command import end_to_end_command
from moe_replay.simulate.commands.graphs.fuse_command import fuse_command
from moe_replay.simulate.commands.graphs.order_command import order_command
from moe_replay.simulate.commands.like_command import like_command
from moe_replay.simulate.commands.logs_command import logs_command
from moe_replay.simulate.commands.memory_command import memory_command
from moe_replay.simulate.commands.miss_curves_command import miss_curves_command
from moe_replay.simulate.commands.misses_command import misses_command
from moe_replay.simulate.commands.open_loop_command import open_loop_command
from moe_replay.simulate.commands.place_command import place_command
from moe_replay.simulate.commands.plan_command import plan_command
from moe_replay.simulate.commands.pools_command import pools_command
from moe_replay.simulate.commands.rebalance_command import rebalance_command
from moe_replay.simulate.commands.run_command import run_command
from moe_replay.simulate.commands.skew_command import skew_command
from moe_replay.simulate.commands.sweep_command import sweep_command
from moe_replay.simulate.commands.timeline_command import timeline_command
from moe_replay.traces.command_line import command

app = command.new_app("Simulate: what a recorded workload costs under another queue size, arrivals or placement.")
COMMANDS = {
    "run": run_command, "logs": logs_command, "compose": compose_command, "like": like_command,
    "open-loop": open_loop_command, "sweep": sweep_command, "compile": compile_command, "misses": misses_command,
    "miss-curves": miss_curves_command, "memory": memory_command, "place": place_command,
    "rebalance": rebalance_command, "pools": pools_command, "plan": plan_command, "costs": costs_command,
    "order": order_command, "fuse": fuse_command, "all-to-all": all_to_all_command, "end-to-end": end_to_end_command,
    "timeline": timeline_command, "skew": skew_command,
}  # fmt: skip
for name, each in COMMANDS.items():
    app.command(name)(each)

if __name__ == "__main__":
    command.run(app, "simulate")
