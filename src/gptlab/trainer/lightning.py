"""A Lightning Trainer on one kind of device. Logging, saving and evaluation are the run's own; Lightning's are off."""

from typing import Any, Literal

import torch

THREADS = torch.get_num_threads()
"""What torch chose for this machine at the start."""


class Lightning:
    """`auto` takes the GPU if there is one. threads: of the CPU; null leaves the choice to torch. The last bits of
    numbers depend on it."""

    def __init__(
        self,
        *,
        accelerator: Literal["auto", "cpu", "gpu"] = "auto",
        devices: int = 1,
        precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true",
        threads: int | None = None,
    ) -> None:
        if threads is not None and threads < 1:
            raise ValueError(f"threads={threads} is not positive; null leaves the choice to torch")
        if devices != 1:
            raise ValueError(f"devices={devices}: only 1 is supported so far; set trainer.devices=1")
        if accelerator == "gpu" and not torch.cuda.is_available():
            raise ValueError("accelerator=gpu: torch sees no GPU here; use trainer=cpu or trainer=auto")
        there = "gpu" if torch.cuda.is_available() else "cpu"
        self.accelerator = there if accelerator == "auto" else accelerator
        self.devices, self.precision, self.threads = devices, precision, threads or THREADS

    def __call__(self, **more: Any) -> Any:
        """The Trainer; `more` is what the run adds."""
        from lightning import Trainer  # late: a refused value must not wait for it

        torch.set_num_threads(self.threads)
        return Trainer(
            accelerator=self.accelerator,
            devices=self.devices,
            precision=self.precision,  # type: ignore[arg-type]
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            max_epochs=-1,
            **more,
        )
