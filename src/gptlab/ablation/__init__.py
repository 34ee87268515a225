"""What a study asks, which cells it needs, what is done already, and what the runs say. Never imports torch."""
