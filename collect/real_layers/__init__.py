"""MoE layers of published models' sizes with random weights: what their batches, transfers and buffers cost."""
