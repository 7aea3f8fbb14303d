"""How close does the simulator come to what was executed, and a machine to itself?"""
