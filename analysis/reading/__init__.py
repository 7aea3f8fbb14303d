"""What tables are made from: sets of logs, runs beside their simulations, configurations as columns."""
