"""What mixers without a softmax share: a linear state in its two forms, decayed scores, the short convolution."""
