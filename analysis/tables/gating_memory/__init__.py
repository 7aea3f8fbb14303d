"""What does static capacity cost beside dynamic gating: memory, wasted rows, time?"""
