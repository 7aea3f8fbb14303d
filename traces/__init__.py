"""Traces: what experts a real MoE run selected, and the records that executions and simulations leave.

Letters used in field names throughout the package:

    T  tokens (rows of a trace)      L  MoE layers            K  experts per token and layer (the maximum)
    E  experts per layer             S  sequences, ascending  P  passes            D  devices
    B  queue size                    C  expert slots in device memory

Times carry their unit (`service_ns`, `transfer_s`), sizes end in `_bytes`.
This folder imports no sibling; every other folder may import it.
"""
