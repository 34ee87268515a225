"""Where a run trains. A choice is called with what the run adds (steps, callbacks) and gives a Lightning Trainer."""
