"""Numbers to verdicts. Pure: no torch, no files."""
