"""Trainers: the device and the processes of a run.

A choice is called with what the run adds (steps, callbacks) and returns a Lightning Trainer.
"""
