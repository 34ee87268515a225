"""An ablation study from its command to its verdicts. Never imports torch at the top.

options   the study's own knobs            cells     arms x seeds, each a whole recipe
question  command line to StudySpec        plan      which cells are done, what the others cost
engine    run, confirm, time, compare      worker    one cell, wherever a launcher put it
design    axes to arms                     search    trials instead of arms (optuna)
cost      count, time and match arms       measure   studies that measure without training
study_plan  what goes into study.json      arms/     which arms there are: grids, exclusions, second names
protocol/   registered plans and campaigns
"""
