"""The study of delta-MoE: does choosing K per sample beat a fixed K?"""
