"""Does choosing K per sample beat a fixed K at equal mean K?"""
