"""Graphs of one training iteration: operations, the storages they touch, and what must run before what."""
