"""Importers: what other programs wrote about expert selections, read as a `Trace` or, for counts, as a `LoadTrace`.

One module per kind, all in the table in `importer_names`. An importer checks the known traps of its format and refuses
what does not fit; it never repairs."""
