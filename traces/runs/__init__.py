"""What executions and simulations leave: records of runs, their windows and statistics, cost tables, sweeps."""
