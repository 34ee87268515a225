"""Commands of `python -m gptlab`, one a file."""
