"""Share of the words in a generated text that are words of the training text.

    words(s) = the parts of s between any of  ? . : ; , - ! '  space and newline
    accuracy(s) = |words(s) that the text has| / |words(s)|

mode=multiset counts every word as often as it was written, which hardly depends on the length of s. mode=set counts it
once: long bad texts then look worse than short ones, so compare equal lengths alone. Only texts that part their words
by such signs can be judged. Defined in github.com/paco23ch/cic_cc_p02_transformer; `word_accuracy_original` is its very
rule.
"""

import re
from functools import cached_property
from typing import Literal

from gptlab.training.metric import ReadText, Split, TextMetric

SEPARATORS = re.compile(r"[?.:;, \n\-!']+")


class WordAccuracy(TextMetric):
    """Word accuracy, in [0, 1]; a text without words has 0.

    reference          text whose words count: the training split, or all
    mode               count each word once (set) or as often as it was written (multiset)
    drop_empty         the empty part between two separators is no word
    drop_last_partial  nor is the last part, which the length may have cut
    lowercase          ignore case
    before             put in front of every text
    """

    def __init__(
        self,
        read: ReadText,
        *,
        reference: Literal["train", "all"] = "train",
        mode: Literal["set", "multiset"] = "multiset",
        drop_empty: bool = True,
        drop_last_partial: bool = True,
        lowercase: bool = False,
        before: str = "",
    ) -> None:
        super().__init__(read)
        self.splits: tuple[Split, ...] = ("train",) if reference == "train" else ("train", "validation")
        self.count_once, self.drop_empty, self.drop_last_partial = mode == "set", drop_empty, drop_last_partial
        self.lowercase, self.before = lowercase, before

    @cached_property
    def reference_words(self) -> frozenset[str]:
        """The words of the reference, with the empty word where that counts, since every text of some length has it."""
        words, partial_word = set[str](), ""  # a word that the end of a part may have cut
        for split in self.splits:
            for text in self.read(split):
                # the last piece of a part may go on in the next one
                *whole_words, partial_word = SEPARATORS.split(partial_word + self._fold_case(text))
                words.update(whole_words)
        words.add(partial_word)
        if self.drop_empty:
            words.discard("")
        else:
            words.add("")
        return frozenset(words)

    def score(self, text: str) -> float:
        # an empty text has one empty word; only drop_empty makes that none
        words = SEPARATORS.split(self._fold_case(self.before + text))
        if self.drop_last_partial:
            words.pop()
        if self.drop_empty:
            words = [word for word in words if word]
        scored_words = set(words) if self.count_once else words
        if not scored_words:
            return 0.0
        return sum(word in self.reference_words for word in scored_words) / len(scored_words)

    def _fold_case(self, text: str) -> str:
        return text.lower() if self.lowercase else text
