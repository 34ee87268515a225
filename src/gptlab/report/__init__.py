"""What people look at: a study as a report in W&B. Built from run folders; never imports torch."""
