"""Cost of a run: time, memory, and how much of the device it uses."""
