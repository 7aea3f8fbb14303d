"""Does accuracy grow linearly with the number of experts per token?"""
