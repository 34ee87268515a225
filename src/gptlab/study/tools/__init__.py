"""Instruments that several studies measure with."""
