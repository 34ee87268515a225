"""Every arm is trained under every seed, an ordinary run each, and judged by its loss: what a study is by default."""

from typing import ClassVar

from gptlab.study import Study


class Train(Study):
    """The knobs of conf/ablate.yaml are its own."""

    together: ClassVar[bool] = False
