"""Forms in which llama.cpp and its forks leave selections: streams in the order of evaluation, records, GGUF."""
