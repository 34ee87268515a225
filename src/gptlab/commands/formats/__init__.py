"""Formats of other programs that a run is exported to, and the card that goes with it."""
