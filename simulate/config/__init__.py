"""What is asked of a run: scheduler, expert memory, workload, costs, and grids of all these.

`collect` may import this folder and `simulate.policies`, and nothing else of `simulate`."""
