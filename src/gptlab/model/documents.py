"""Documents that share a row: which token belongs to which, and where each stands in its own.

    documents   3 3 3 4 4 4 4 5        (B, T), ascending; any numbers that differ from document to document
    positions   0 1 2 0 1 2 3 0        begin anew with each, and with the row

A document in a row has the logits that it has alone. Softmax looks at keys of the query's document only (PassMask); a
recurrence forgets all at the first token of each (`forget_at_borders`); a convolution reads 0 across a border.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from gptlab.model.forward_pass import ForwardPass

LEFT = 1 / 64
"""What is left of a state where a document begins, in units of its last bit.

Not nothing, since chunks subtract sums of log decays, and that of two infinities is no number; not less than this,
since a sum is the more exact the smaller it is.
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
    # 20 in float32, 40 in float64; states are never of less
    bits = torch.finfo(torch.promote_types(log_decay.dtype, torch.float32)).eps
    return log_decay + math.log(LEFT * bits) * is_first.to(log_decay.dtype)


def hide_other_documents(x: Tensor, forward_pass: ForwardPass, back: int) -> Tensor:
    """Return inputs x (B, T, channels) of `back` tokens before each, 0 where those are of another document."""
    if forward_pass.documents is None:
        return x
    # positions begin at 0 in each document, so fewer than `back` before a token means a border between
    return x * (forward_pass.positions >= back)[..., None]
