"""What `python -m gptlab` calls, one command a file."""
