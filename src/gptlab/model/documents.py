"""Documents that share a row: which token belongs to which, and where each stands in its own.

    documents   3 3 3 4 4 4 4 5        (B, T), ascending; any numbers that differ from document to document
    positions   0 1 2 0 1 2 3 0        begin anew with each, and with the row

A document in a row has the logits that it has alone. Softmax looks at keys of the query's document only (PassMask); a
recurrence forgets all at the first token of each (`forget_at_borders`); a convolution reads 0 across a border.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from gptlab.model.forward_pass import ForwardPass

FORGETTING = 60.0
"""Taken off a log decay where a document begins: e^-60 = 9e-27 of a state is left, beyond what float64 tells from none.

Not infinity: chunks subtract sums of log decays, and that of two infinities is no number. Not more than needed: a sum
is as exact as float32 is at its size, 4e-6 here.
"""


def count_positions(documents: Tensor) -> Tensor:
    """Return the position of each token in its document, (B, T), for the numbers of the documents, (B, T)."""
    places = torch.arange(documents.shape[1], device=documents.device)[None]
    is_first = F.pad(documents.diff(dim=1) != 0, (1, 0))
    # the place where the document of each token began: the largest so far, and 0 for the row's first
    return places - (places * is_first).cummax(1).values


def forget_at_borders(log_decay: Tensor, forward_pass: ForwardPass) -> Tensor:
    """Return log decays (B|1, T, H, D|1) by which nothing is left of earlier documents, (B, T, H, D|1)."""
    if forward_pass.documents is None:
        return log_decay
    is_first = (forward_pass.positions == 0)[..., None, None]
    return log_decay - FORGETTING * is_first.to(log_decay.dtype)


def hide_other_documents(x: Tensor, forward_pass: ForwardPass, back: int) -> Tensor:
    """Return inputs x (B, T, channels) of `back` tokens before each, 0 where those are of another document."""
    if forward_pass.documents is None:
        return x
    # positions begin at 0 in each document, so fewer than `back` before a token means a border between
    return x * (forward_pass.positions >= back)[..., None]
