"""How much memory does a training iteration need in the best order of its operations, and is that the least?"""
