"""Standard parametrization: first values are the init's, every weight has the optimizer's rate, nothing is multiplied.

The best rate then falls as a decoder grows wider or deeper.
"""

from gptlab.model.parametrization import Parametrization


class Standard(Parametrization):
    """First values, rates and multipliers as the init, the optimizer and the parts have them."""
