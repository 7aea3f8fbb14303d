"""Vision transformers with dense, switch or randomly routed feed-forward parts: model, averaging, training, times."""
