"""Which experts are active over time, how soon are they used again, and does that differ from random order?"""
