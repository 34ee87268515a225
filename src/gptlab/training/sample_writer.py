"""SampleWriter: texts that a decoder writes under the run's sample settings."""

from typing import Any

import numpy as np
import torch

from gptlab.config.recipe import Recipe
from gptlab.corpus.corpus import Corpus
from gptlab.corpus.load import encode_sample_prompt
from gptlab.generation.cuda_graph import GraphedTokenStep
from gptlab.generation.generate import generate
from gptlab.model.decoder import Decoder
from gptlab.model.eval_mode import eval_mode


class SampleWriter:
    """Writes samples after the run's prompt, (prompt tokens,) of int64 on the training device."""

    def __init__(self, recipe: Recipe, corpus: Corpus, device: torch.device) -> None:
        self.settings, self.tokenizer = recipe.settings, corpus.tokenizer
        self.cuda_graph = bool(recipe.config["trainer"].get("cuda_graph"))
        self.prompt = torch.from_numpy(encode_sample_prompt(recipe, corpus).astype(np.int64)).to(device)

    def write(
        self, decoder: Decoder, count: int, length: int, *, seed: int | None = None, cached: bool | None = None
    ) -> list[dict[str, Any]]:
        """Write `count` texts of `length` tokens in one batch; return each with its prompt, seed and temperature.

        seed    None takes the run's
        cached  None takes `sample.cached`
        """
        sample = self.settings.sample
        seed = self.settings.seed if seed is None else seed
        tokens = generate(
            decoder,
            # (count, prompt tokens), one memory for all rows
            self.prompt[None].expand(count, -1),
            length,
            temperature=sample.temperature,
            top_k=sample.top_k,
            top_p=sample.top_p,
            seed=seed,
            cached=sample.cached if cached is None else cached,
            step=GraphedTokenStep(decoder) if self.cuda_graph else None,
        )
        decode = self.tokenizer.decode
        prompt = decode(self.prompt.cpu().numpy())
        with eval_mode(decoder):  # once: to switch at every token would take a fourth of a small decoder's time
            # (count, length): generate yields a token of every text at a time
            rows = torch.stack(list(tokens), 1).cpu().numpy()
        return [
            {"prompt": prompt, "seed": seed, "temperature": sample.temperature, "text": decode(row)} for row in rows
        ]
