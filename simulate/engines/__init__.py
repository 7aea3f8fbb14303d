"""The engines: SimPy, the readable reference; the compiled one, equal to it to the ns; which of them runs what."""
