"""A byte-level MoE language model: corpus, model, training, held-out quality, prefill and decode traces."""
