"""Analysis: from records to tables, statistics of runs, closed forms, and the sentence that every figure has to prove.

Shape letters are those of `traces`: T tokens, L layers, K experts per token, E experts, B queue size, D devices.
Times carry units in their names. Only this package reads records; only `figures` draws the tables that it writes."""
