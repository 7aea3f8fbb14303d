"""The live page: sliders that ask the simulator while one looks; the one place of this room that computes anything."""
