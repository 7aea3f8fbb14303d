"""Columns about locality: reuse by the next token, stack distances, LRU hits, drift between domains."""

from moe_replay.traces.glossary.column import TRACE, Column

COLUMNS = (
    Column("domain", "", "domain of the text, `all`: every one"),
    Column("domains", "domains", "domains that are compared", TRACE),
    Column("stream", "", "what follows what: the tokens of a sequence, or a patch of successive frames"),
    Column("streams", "streams", "streams of tokens; caches are emptied where one begins", TRACE),
    Column("shared", "selections", "selections that the token before made too", TRACE),
    Column("reuse", "share", "selections that the token before made too, of all that have one before", TRACE),
    Column("reuse_over_shuffled", "", "reuse over that of the same tokens in random order", TRACE),
    Column("median_distance", "experts", "median LRU stack distance of selections that had one before", TRACE),
    Column("slots_quarter", "experts", "a quarter of the experts"),
    Column("hits_quarter", "share", "hit ratio of LRU with `slots_quarter` slots a layer, emptied per stream", TRACE,
           title="LRU E/4"),
    Column("slots_half", "experts", "half of the experts"),
    Column("hits_half", "share", "hit ratio of LRU with `slots_half` slots a layer, emptied per stream", TRACE,
           title="LRU E/2"),
    Column("bin", "", "which of the equal parts of the domain's tokens"),
    Column("divergence_bits", "bits", "Jensen-Shannon divergence between the domains' use of experts", TRACE),
    Column("permuted_mean", "bits", "mean divergence with whole sequences permuted between domains", TRACE),
    Column("permuted_95", "bits", "95 % of the permutations lie below", TRACE),
    Column("p", "", "p-value: of the permutation test, or of the test for lack of fit"),
)  # fmt: skip
