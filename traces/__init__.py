"""Traces: which experts a real MoE run selected, as a file and in memory; every other room may import this one.

Letters used in field names throughout the project:

    T  tokens (rows of a trace)      L  MoE layers            K  experts per token and layer (the maximum)
    E  experts per layer             S  sequences, ascending  P  passes            D  devices
    B  queue size                    C  expert slots in device memory

Times carry their unit (`service_ns`, `transfer_s`), sizes end in `_bytes`. This room imports no other."""
