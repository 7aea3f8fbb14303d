"""`python -m figures`: pictures of tables."""

import typer

from moe_replay.figures.commands.draw_command import draw
from moe_replay.figures.commands.live_command import live
from moe_replay.figures.commands.plot_command import plot
from moe_replay.figures.commands.report_command import report
from moe_replay.traces.command_line.command import new_app, run

DEFAULT = "draw"  # what `python -m figures TABLES` means


class DrawByDefault(typer.core.TyperGroup):
    """Commands of which one may go unnamed: `python -m figures TABLES` is `python -m figures draw TABLES`."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:
        """Put the name of the default command before words that begin with no command's name."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)


app = new_app("")


@app.callback(cls=DrawByDefault)
def figures() -> None:
    """Figures: pictures of tables and results. `python -m figures TABLES` is short for `draw TABLES`."""


app.command("draw", no_args_is_help=True)(draw)
app.command("live", no_args_is_help=True)(live)
app.command("plot", no_args_is_help=True)(plot)
app.command("report", no_args_is_help=True)(report)

if __name__ == "__main__":
    run(app, "figures")
