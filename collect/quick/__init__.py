"""A GPU in eight minutes: the steps of `collect quick`, the clock over them, and the logs packed for the way back."""
