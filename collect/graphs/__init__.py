"""Training iterations as graphs: captured with make_fx, run in any order of their operations, their memory measured"""
