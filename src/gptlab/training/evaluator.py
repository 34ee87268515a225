"""Evaluator: the loss and the metrics of a decoder on the validation split."""

from gptlab.config.factory import factory
from gptlab.config.recipe import Recipe
from gptlab.corpus.corpus import Corpus
from gptlab.model.decoder import Decoder
from gptlab.training.evaluate import evaluate
from gptlab.training.metric import Scores, TextMetric, TokenMetric
from gptlab.training.reference_texts import ReferenceTexts


class Evaluator:
    """Scores a decoder on fixed windows of the validation split.

    interim_windows  inputs and targets of the interim evaluations, the same tokens each time
    all_windows      every target of the split once
    token_bytes      (V,) UTF-8 bytes of each token
    """

    def __init__(self, recipe: Recipe, corpus: Corpus) -> None:
        context = recipe.settings.model.context
        self.texts = ReferenceTexts(corpus)
        self.token_metrics: dict[str, TokenMetric] = {}
        self.text_metrics: dict[str, TextMetric] = {}
        for name, node in recipe.config["metric"].items():
            make = factory(node, f"metric.{name}")
            if isinstance(make.target, type) and issubclass(make.target, TextMetric):
                # a metric of texts compares with the training text, which it reads when first asked
                self.text_metrics[name] = make(self.texts.read)
            else:
                self.token_metrics[name] = make()
                self.token_metrics[name].sync_on_compute = False  # all processes score the same tokens
        self.token_bytes = corpus.tokenizer.lengths()
        self.interim_windows = corpus.windows(context, recipe.settings.evaluation.tokens)
        self.all_windows = corpus.windows(context)

    def score_interim(self, decoder: Decoder) -> Scores:
        """Score the tokens of the interim evaluations."""
        return evaluate(decoder, *self.interim_windows, self.token_bytes)

    def score_all(self, decoder: Decoder) -> Scores:
        """Score every target of the validation split."""
        return evaluate(decoder, *self.all_windows, self.token_bytes)

    def compute_values(self, scores: Scores) -> dict[str, float]:
        """Return the mean loss in nats per token, and every token metric, of scored tokens."""
        values = {"val/loss": scores.nats.double().mean().item()}
        for name, metric in self.token_metrics.items():
            # all targets of an evaluation come at once: nothing is left from the one before
            metric.to(scores.nats.device).reset()
            metric.update(scores)
            values[f"val/{name}"] = float(metric.compute())
        return values
