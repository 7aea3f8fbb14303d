"""End to end: steps of expert-parallel clusters under ways to place experts, planned on what came before the steps"""
