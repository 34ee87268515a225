"""What a run costs: time, memory, and how much of the device it uses."""
