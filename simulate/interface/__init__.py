"""The functions that Python programs call: `moe_replay.replay`, `count_misses`, `sweep`, `plan`, and their results."""
