"""Skew: what unequal load over expert-parallel devices costs in a served layer, by measured times of whole layers"""
