"""A Lightning Trainer on one kind of device. All logging, saving and evaluation is the run's own, so Lightning's is off."""

from typing import Any, Literal

import torch


def trainer(
    *,
    accelerator: Literal["auto", "cpu", "gpu"] = "auto",
    devices: int = 1,
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true",
    **more: Any,
) -> Any:
    """The Trainer; `auto` takes the GPU if there is one."""
    from lightning import Trainer  # late: a refused value must not wait for it

    if devices != 1:
        raise ValueError(f"devices={devices}: only 1 is supported so far")
    if accelerator == "gpu" and not torch.cuda.is_available():
        raise ValueError("accelerator=gpu: torch sees no GPU here; use trainer=cpu or trainer=auto")
    chosen = (
        "gpu"
        if accelerator == "auto" and torch.cuda.is_available()
        else "cpu"
        if accelerator == "auto"
        else accelerator
    )
    return Trainer(
        accelerator=chosen,
        devices=devices,
        precision=precision,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        max_epochs=-1,
        **more,
    )
