"""Tables: files of named columns (CSV, JSON, JSON Lines, Parquet, NPZ, .pt), and what their columns mean."""
