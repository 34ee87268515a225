"""Training: every arm is trained under every seed, a run each, and judged by its loss. The default study."""

from typing import ClassVar

from gptlab.study import Study


class Train(Study):
    """Train all arms; its knobs are those of conf/ablate.yaml."""

    together: ClassVar[bool] = False
