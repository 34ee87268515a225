"""What people look at: a study or a run as a page, and as a report in W&B. Built from run folders; never imports torch."""
