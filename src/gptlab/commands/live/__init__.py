"""The live page: all runs and studies of an outputs folder in a browser of this machine."""
