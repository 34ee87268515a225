"""Reports of runs and studies: HTML pages, Markdown, LaTeX, the terminal, W&B. Built from folders; never imports torch.

findings.py  compares the runs of a study; study.py, run.py and measurement.py build a `model.Report`
text/        sentences and tables; figures/ plotly figures; render/ a report in each format
publish.py   writes pages and uploads
"""
