"""Keys of summary.json, declared once: what each holds, its unit, which way is better, and the file that writes it.

Tables, sentences and verdicts take names, units and directions from here, and docs/comparison.md is generated from it.
"""

import re
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class SummaryKey:
    """One key of summary.json.

    key      as it is written; <name> stands for what varies
    unit     empty for texts, flags and numbers without one
    better   none where neither direction is
    source   the file that writes it, below src/gptlab
    name     what tables and sentences call it; empty where they do not
    """

    key: str
    unit: str = ""
    better: Literal["lower", "higher", "none"] = "none"
    meaning: str
    source: str
    name: str = ""

    @property
    def title(self) -> str:
        """Its name with its unit: "peak memory, bytes"."""
        if not self.unit or self.unit.startswith("share of ") or self.name.endswith(self.unit):
            return self.name
        return self.unit if self.unit.startswith(self.name) else f"{self.name}, {self.unit}"

    def matches(self, key: str) -> bool:
        """Whether this declares a key of a file."""
        # <name> is any text without a slash; all else is meant literally
        parts = re.split(r"(<\w+>)", self.key)
        return re.fullmatch("".join("[^/]+" if part[:1] == "<" else re.escape(part) for part in parts), key) is not None


def _fact(key: str, meaning: str, source: str, *, unit: str = "", name: str = "") -> SummaryKey:
    return SummaryKey(key=key, unit=unit, meaning=meaning, source=source, name=name)


def _lower(key: str, unit: str, meaning: str, source: str, *, name: str = "") -> SummaryKey:
    return SummaryKey(key=key, unit=unit, better="lower", meaning=meaning, source=source, name=name)


def _higher(key: str, unit: str, meaning: str, source: str, *, name: str = "") -> SummaryKey:
    return SummaryKey(key=key, unit=unit, better="higher", meaning=meaning, source=source, name=name)


# files are named once: tests hold that each one exists
START, RECORD, SUMMARY, RUN = "training/start.py", "runs/record.py", "training/summary.py", "training/run.py"
EVALUATOR, FINAL, SAMPLES = "training/evaluator.py", "training/final_evaluation.py", "training/samples.py"
COSTS, CHANGE = "model/costs.py", "weights/change"

NOISE_PREFIX = "noise/"
"""Before the name of a metric of downstream tasks, val/ left out: how much it moves from checkpoint to checkpoint."""

OUTCOME = (
    _fact("status", "finished, or diverged", RUN),
    _fact("reason", "where it diverged, and only then", RUN),
)
ORIGIN = (
    _fact("started", "time of the start, UTC", RECORD),
    _fact("ended", "time of the end, UTC", SUMMARY),
    _fact("id", "name of the run in W&B", START),
    _fact("hash", "hash of the config without cosmetic keys", START),
    _fact("code", "fingerprint of the sources that it ran", START, name="code fingerprint"),
    _fact("git", "commit of the sources, with + if they were changed since", START, name="git"),
    _fact("data_sha256", "sha256 of the text", START, name="sha256 of the text"),
    _fact("torch", "version of PyTorch", START, name="torch"),
    _fact("lightning", "version of Lightning", START, name="lightning"),
    _fact("python", "version of Python", START, name="python"),
    _fact("device", "the device, with its threads if it is a CPU", SUMMARY, name="device"),
    _fact("processes", "processes that trained together", SUMMARY, unit="processes"),
    _fact("precision", "precision of training, in Lightning's words", SUMMARY, name="precision"),
    _fact("compiled", "whether the decoder was compiled", SUMMARY),
    _fact("schedule/mean_factor", "mean of the schedule over the run, of the peak learning rate", SUMMARY),
    _fact("attention/kernel", "the attention kernels that ran", SUMMARY, name="attention kernel"),
)
EXTENT = (
    _fact("seed", "seed of the weights and of the batches", SUMMARY),
    _fact("steps", "optimizer steps", SUMMARY, unit="steps"),
    _fact("tokens", "tokens that it learnt from, repeats included", SUMMARY, unit="tokens"),
    _fact("train_tokens", "size of the training split", START, unit="tokens"),
    _fact("validation_tokens", "size of the validation split", START, unit="tokens"),
    _fact("scored_tokens", "targets of the final evaluation (evaluation.final)", FINAL, unit="tokens"),
)
COUNTS = (
    _lower("params", "parameters", "parameters, a tied one once", COSTS, name="parameters"),
    _lower("params_trainable", "parameters", "those that learn", COSTS),
    _lower("params_active", "parameters", "those that one token meets", COSTS, name="active parameters"),
    _lower("flops_per_token", "FLOPs/token", "matmul FLOPs of training on one token", COSTS, name="FLOPs"),
    _lower("cache_bytes_per_token", "bytes/token", "size of a full key-value cache", COSTS, name="cache"),
    _lower("weight_bits", "bits", "mean of the weights that change=[quantize] rounds", CHANGE, name="weight bits"),
    _lower("activation_bits", "bits", "mean of the inputs that change=[quantize] rounds", CHANGE),
    _higher("sparsity", "share of weights", "zeros in the Linears that change=[prune] prunes", CHANGE),
    _lower("packed_bytes", "bytes", "size of the weights that change=[pack] packs", CHANGE),
    _fact("unpacked_bytes", "size of the same weights as floats", CHANGE, unit="bytes"),
)
QUALITY = (
    _lower("val/loss", "nats/token", "mean over the targets of the final evaluation", EVALUATOR, name="loss"),
    _lower("val/loss_best", "nats/token", "the lowest of all evaluations", FINAL, name="best loss"),
    # halves of the same targets, scored with the rest: a search chooses by one and is judged by the other
    _lower("val/loss_select", "nats/token", "mean over the first half of the targets: a search chooses by it", FINAL),
    _lower("val/loss_test", "nats/token", "the second half: a search is judged by it", FINAL, name="test loss"),
    _lower("val/loss_at_<n>x", "nats/token", "the same targets after n = 1, 2, 4 contexts of text", FINAL),
    _lower("val/loss_in_document_<n>", "nats/token", "targets after n to 2 n - 1 tokens of their document", FINAL),
    _lower("val/loss_source_<source>", "nats/token", "targets of one file of the validation split", FINAL),
    _fact("val/loss_at_missing", "why one of these is not there", FINAL),
    _lower("val/bits_per_byte", "bits/byte", "the loss in bits, over bytes of text", EVALUATOR, name="bits/byte"),
    _lower("val/perplexity", "", "exp(val/loss)", EVALUATOR, name="perplexity"),
    _higher("val/token_accuracy", "share of tokens", "the likeliest token is right", EVALUATOR, name="token accuracy"),
    _higher("val/answer_accuracy", "share of answers", "the likeliest token is right", EVALUATOR, name="accuracy"),
    _higher("val/accuracy_at_<difficulty>_<level>", "share of answers", "those of one level of difficulty", FINAL),
    _higher("val/word_accuracy", "share of words", "words of the samples that are real", SAMPLES, name="word accuracy"),
    _lower("val/answer_bits", "bits/byte", "right answers to questions, over tasks", EVALUATOR, name="answer bits"),
    _lower("val/answer_bits_<task>", "bits/byte", "the same in one of several tasks", EVALUATOR),
    _higher("val/minimal_pairs", "share of pairs", "the right sentence is likelier", EVALUATOR, name="minimal pairs"),
    _higher("val/minimal_pairs_<task>", "share of pairs", "the same in one of several tasks", EVALUATOR),
    _fact("val/<metric>", "any other choice of `metric`", EVALUATOR),
    _fact("val/<metric>_floor", "a metric of texts, for random texts", SAMPLES),
    _fact("val/<metric>_ceiling", "the same, for texts of the validation split", SAMPLES),
    _fact("val/<metric>_low", "lower end of its 95 % interval over samples", SAMPLES),
    _fact("val/<metric>_high", "upper end of its 95 % interval over samples", SAMPLES),
    _fact(f"{NOISE_PREFIX}<metric>", "of a downstream task: SD of the last 5 evaluations about a line", FINAL),
    _fact("position/overlap", "share of main directions common to positions and tokens", FINAL),
    _fact("position/overlap_chance", "what chance gives of it", FINAL),
)
SPENT = (
    _lower("time/total_s", "seconds", "the whole run", SUMMARY, name="in all"),
    _lower("time/start_s", "seconds", "until the first step", SUMMARY, name="start"),
    _lower("time/train_s", "seconds", "training", SUMMARY, name="training"),
    _lower("time/evaluate_s", "seconds", "all evaluations", SUMMARY, name="evaluation"),
    _lower("time/samples_s", "seconds", "the samples at the end", SAMPLES, name="samples"),
    _lower("time/step_ms_median", "ms", "median of a step", SUMMARY, name="step"),
    _lower("time/generate_ms_per_token", "ms/token", "median at batch 1, with caches", SAMPLES, name="writing"),
    _lower("time/generate_uncached_ms_per_token", "ms/token", "the same without caches, past a whole context", SAMPLES),
    _lower("time/generate_cached_s", "seconds", "writing all samples with caches, if it was done", SAMPLES),
    _lower("time/generate_uncached_s", "seconds", "the same without caches", SAMPLES),
    _higher("throughput/tokens_per_s", "tokens/s", "tokens of a batch over the median step", SUMMARY, name="tokens/s"),
    _higher("throughput/mfu", "share of peak", "model FLOPs over those of the device, where known", SUMMARY),
    _lower("memory/peak_bytes", "bytes", "most memory held at once", SUMMARY, name="peak memory"),
)
GROUPS = {
    "How it ended": OUTCOME,
    "What ran": ORIGIN,
    "How far": EXTENT,
    "Counts": COUNTS,
    "Quality": QUALITY,
    "Time and memory": SPENT,
}
SUMMARY_KEYS = {declared.key: declared for group in GROUPS.values() for declared in group}


def find_key(key: str) -> SummaryKey | None:
    """Return the declaration of a key in a file, the most special that fits; None if there is none."""
    # val/loss fits val/<metric> too
    fitting = [declared for declared in SUMMARY_KEYS.values() if declared.matches(key)]
    return max(fitting, key=lambda declared: (declared.key == key, len(declared.key)), default=None)


def list_names(*keys: str) -> dict[str, str]:
    """Return the names of keys, by key."""
    return {key: SUMMARY_KEYS[key].name for key in keys}
