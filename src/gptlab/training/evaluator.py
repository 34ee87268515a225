"""Evaluator: the loss and the metrics of a decoder on the validation split."""

from gptlab.config.factory import factory
from gptlab.config.recipe import Recipe
from gptlab.corpus.corpus import Corpus
from gptlab.model.decoder import Decoder
from gptlab.training.evaluate import evaluate
from gptlab.training.metric import AnswerMetric, Scores, TextMetric, TokenMetric, build_task_metrics
from gptlab.training.reference_texts import ReferenceTexts

MOST_FINAL_TOKENS = 20_000_000
"""Targets of the final evaluation unless evaluation.final says more: their mean is known to 0.001 nats, and a split of
100 million would take longer than many a training.
"""
STRETCHES, LONGEST_STRETCH = 64, 2**16
"""Stretches of text, at least, that a final evaluation of a part of the split scores, and tokens of one, at most."""


class Evaluator:
    """Scores a decoder on fixed windows of the validation split.

    interim_windows  inputs and targets of the interim evaluations, the same tokens each time
    final_windows    every target of the split once, or as many as the final evaluation scores, spread evenly
    token_bytes      (V,) UTF-8 bytes of each token
    """

    def __init__(self, recipe: Recipe, corpus: Corpus) -> None:
        context = recipe.settings.model.context
        self.texts = ReferenceTexts(corpus)
        self.token_metrics: dict[str, TokenMetric] = {}
        self.text_metrics: dict[str, TextMetric] = {}
        self.answer_metrics: dict[str, AnswerMetric] = {}
        self.task_metrics = build_task_metrics(recipe.config["metric"], corpus.tokenizer)
        for metric in self.task_metrics.values():
            metric.sync_on_compute = False
        for name, node in recipe.config["metric"].items():
            make = factory(node, f"metric.{name}")
            if isinstance(make.target, type) and issubclass(make.target, TextMetric):
                # a metric of texts compares with the training text, which it reads when first asked
                self.text_metrics[name] = make(self.texts.read)
            elif isinstance(make.target, type) and issubclass(make.target, AnswerMetric):
                self.answer_metrics[name] = make(corpus)
                self.answer_metrics[name].sync_on_compute = False
            elif name not in self.task_metrics:
                self.token_metrics[name] = make()
                self.token_metrics[name].sync_on_compute = False  # all processes score the same tokens
        self.token_bytes = corpus.tokenizer.lengths()
        self.interim_windows = corpus.windows(context, recipe.settings.evaluation.tokens)
        final_tokens = recipe.settings.evaluation.final or MOST_FINAL_TOKENS
        # stretches that no context length decides, so that models of all lengths are judged by the same tokens
        stretch = min(LONGEST_STRETCH, 2 ** max(0, (final_tokens // STRETCHES).bit_length() - 1))
        self.final_windows = corpus.windows(context, final_tokens, stretch)

    def score_interim(self, decoder: Decoder) -> Scores:
        """Score the tokens of the interim evaluations."""
        return evaluate(decoder, *self.interim_windows, self.token_bytes)

    def score_final(self, decoder: Decoder) -> Scores:
        """Score the targets of the final evaluation."""
        return evaluate(decoder, *self.final_windows, self.token_bytes)

    def compute_values(self, scores: Scores) -> dict[str, float]:
        """Return the mean loss in nats per token, and every token metric, of scored tokens."""
        values = {"val/loss": scores.nats.double().mean().item()}
        for name, metric in self.token_metrics.items():
            # all targets of an evaluation come at once: nothing is left from the one before
            metric.to(scores.nats.device).reset()
            metric.update(scores)
            values[f"val/{name}"] = float(metric.compute())
        return values

    def score_tasks(self, decoder: Decoder) -> dict[str, float]:
        """Return every metric of downstream tasks: the mean over tasks and, of several, that of each."""
        values = {}
        for name, metric in self.task_metrics.items():
            metric.reset()
            metric.update(decoder)
            values[f"val/{name}"] = float(metric.compute())
            if len(metric.values) > 1:
                for task, value in metric.values.items():
                    values[f"val/{name}_{task}"] = value
        return values

    def score_answers(self, decoder: Decoder, *, final: bool) -> dict[str, float]:
        """Return the accuracy of written answers, to the questions of the interim or of the final evaluation."""
        values = {}
        inputs, _ = self.final_windows if final else self.interim_windows
        count = len(inputs)  # a question a row
        for metric in self.answer_metrics.values():
            metric.update(decoder, count)
            # the key of all tasks, which decides in studies
            values["val/answer_accuracy"] = float(metric.compute())
        return values
