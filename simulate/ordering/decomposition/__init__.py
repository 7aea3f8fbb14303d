"""Orders by the shape of a graph: trees, series-parallel graphs, and the parts of others that are so."""
