"""Timelines: the records of a run as tracks of devices, links and queues in a file that ui.perfetto.dev opens."""
