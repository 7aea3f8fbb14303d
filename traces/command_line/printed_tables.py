"""How every command prints a table: whole where it fits the terminal, else turned, a line for each value.

Into a file or a pipe lines are whole, up to ROOM columns: whoever reads them there looks for rows.
"""

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

ROOM = 200  # columns where no terminal sets a limit
UNLIMITED = 10_000


def print_table(table: Table, console: Console | None = None) -> None:
    """Print a table; on a terminal that is too narrow each row becomes a block of `column  value` lines."""
    console = console or Console()
    if not console.is_terminal:
        console.width = max(console.width, ROOM)
        console.print(table)
    elif Measurement.get(console, console.options.update(max_width=UNLIMITED), table).maximum <= console.width:
        console.print(table)
    else:
        print_turned(table, console)


def print_turned(table: Table, console: Console) -> None:
    """Print a row of a table after another, each as a block of two columns: what it is, and the value."""
    if table.title:
        console.print(table.title)
    for row in zip(*(column.cells for column in table.columns), strict=True):
        block = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        for column, cell in zip(table.columns, row, strict=True):
            block.add_row(column.header, cell)
        console.print(block)
        console.print()
