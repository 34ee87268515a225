"""Keys of comparison.json on downstream tasks: what each holds."""

from gptlab.report.render.key_table import KeyTable
from gptlab.stats.downstream.signal_to_noise import SignalToNoise

SIGNAL = KeyTable(
    "`signal`",
    SignalToNoise,
    {
        "signal": "largest difference between two arms' means, as a share of the mean of all",
        "seed_noise": "SD over shared seeds, less the mean of each seed, likewise; null where these are less than two",
        "checkpoint_noise": "SD over a run's last 5 evaluations about a line, likewise; null where there are fewer",
        "ratio": "signal over the larger noise; null without noise",
        "needed": "the ratio that equal arms reach by chance in one study of twenty",
        "is_weak": "whether the ratio is below that: greyed out in the report",
    },
)
