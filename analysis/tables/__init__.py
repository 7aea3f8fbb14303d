"""Tables: one module or folder per figure or table, of the same name.

In a folder `rows` makes the rows, `build` reads the inputs of every set and writes the tables, and `claim` says the
sentence that answers the figure's question."""
