"""What others found about recall and state tracking, found again by short trainings (longer ones: docs/probes.md)."""

import numpy as np
import pytest
import torch
from conftest import CONF, composed
from omegaconf import OmegaConf

from gptlab.config.factory import factory
from gptlab.corpus.load import read_corpus
from gptlab.corpus.task_corpus import TaskCorpus
from gptlab.model.shape import IGNORED
from gptlab.training.build import build_decoder

pytestmark = pytest.mark.slow


def train_and_judge(*overrides: str) -> tuple[np.ndarray, np.ndarray]:
    """Train a decoder on a task as a run does; return whether each answer is right, and its place."""
    made = composed(*overrides)
    corpus, settings = read_corpus(made), made.settings
    assert isinstance(corpus, TaskCorpus)
    decoder = build_decoder(made, corpus.tokenizer.vocab)
    optimizer = factory(made.config["optimizer"], "optimizer")(decoder.trainable_parameters())
    schedule = factory(made.config["schedule"], "schedule")()
    peaks = [group["lr"] for group in optimizer.param_groups]
    for step in range(settings.steps):
        inputs, targets = corpus.make_batch(settings.seed, step, settings.batch_size, settings.model.context)
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * schedule((step + 1) / (settings.steps + 1))
        decoder(torch.from_numpy(inputs), torch.from_numpy(targets)).loss.backward()
        torch.nn.utils.clip_grad_norm_(decoder.parameters(), settings.clip or np.inf)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    with torch.no_grad():
        written = decoder(torch.from_numpy(corpus.judged.inputs)).logits.argmax(-1).numpy()
    is_asked = corpus.judged.targets != IGNORED
    return (written == corpus.judged.targets)[is_asked], np.nonzero(is_asked)[1]


def probe(task: str) -> list[str]:
    """The overrides of a task of experiment=probes."""
    experiment = OmegaConf.load(CONF / "experiment" / "probes.yaml")
    words = [f"optimizer.{name}={value}" for name, value in experiment.optimizer.items()]
    words += ["model=nano", "position=learned", "optimizer=muon", f"steps={experiment.steps}"]
    return [*words, f"batch_size={experiment.batch_size}", *experiment.tasks[task]]


def test_softmax_recalls_what_a_linear_state_of_the_same_size_does_not():
    for attention, least, most in (("mha", 0.99, 1.0), ("linear", 0.0, 0.4)):
        right, _ = train_and_judge(*probe("mqar"), f"attention={attention}")
        assert least <= right.mean() <= most, attention


def test_negative_eigenvalues_track_exchanges_of_five_letters_beyond_the_length_of_training():
    words = ["data=s5", "data.swaps=true", "data.length=12", "data.judged_length=16", "data.examples=256"]
    words += ["model=nano", "model.context=16", "position=nope", "batch_size=64", "steps=800"]
    words += ["optimizer=muon", "optimizer.lr=1e-2", "optimizer.adam_lr=1.4e-2"]
    right, place = train_and_judge(*words, "attention=gated_deltanet", "attention.allow_neg_eigval=true")
    assert right[place < 12].mean() > 0.95
    assert right[place >= 12].mean() > 0.9
    right, place = train_and_judge(*words, "attention=linear")
    assert right[place >= 6].mean() < 0.2
