"""Answers for somebody who waits: parts of a trace, single runs, curves and causes, as the live page asks for them."""
