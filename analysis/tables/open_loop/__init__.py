"""When may a re-gated trace be trusted?"""
