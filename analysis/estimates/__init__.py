"""From samples to intervals, and from theory to expectations: bootstrap, line fits, closed forms of queues."""
