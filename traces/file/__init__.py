"""The file format: columns, checks, reading and writing, long recordings, joining.

A trace is one Parquet file with a JSON header, page checksums and a digest of every column; `trace_file` loads and
saves it, `trace_writer` keeps a recording that survives `kill -9`."""
