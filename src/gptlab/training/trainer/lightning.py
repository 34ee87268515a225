"""A Lightning Trainer on one kind of device. Logging, saving and evaluation are the run's own; Lightning's are off.

single  one process          ddp   one process a device, each with the whole decoder and its part of every batch
fsdp    as ddp, with weights, gradients and moments in shares (Zhao 2023, arXiv:2304.11277), a block at a time
"""

import os
from typing import Any, Literal

import torch

from gptlab.training.cost.threads import DEFAULT_THREADS, choose_threads


def count_slurm_tasks() -> int | None:
    """Return how many processes Slurm started, if Lightning will take them for those of the run.

    It does so wherever there are tasks, but for torchrun's processes and interactive jobs.
    """
    if "WORLD_SIZE" in os.environ or os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive"):
        return None
    tasks = os.environ.get("SLURM_NTASKS", "")
    return int(tasks) if tasks.isdecimal() else None


class Lightning:
    """Factory of a Lightning Trainer. The last bits of numbers depend on all of its knobs.

    accelerator    auto takes the GPU if there is one
    strategy       single, ddp or fsdp, as in the head of this file
    devices        of one node, a process each
    nodes          machines; a launcher must start their processes
    precision      auto is bf16-mixed on a GPU that has it and 32-true elsewhere; 32-true multiplies in whole float32
                   also on GPUs, tf32 there in 19 bits
    threads        CPU threads of each process; null takes as many as there are cores, fewer beside other work where
                   threads wait by spinning (without intel-openmp)
    deterministic  True takes kernels that give the same bits again, also on GPUs, and slower ones
    cuda_graph     True repeats a whole training step as a CUDA graph, and a written token too; untried
    """

    def __init__(
        self,
        *,
        accelerator: Literal["auto", "cpu", "gpu"] = "auto",
        strategy: Literal["single", "ddp", "fsdp"] = "single",
        devices: int = 1,
        nodes: int = 1,
        precision: Literal["auto", "32-true", "tf32", "bf16-mixed"] = "auto",
        threads: int | None = None,
        deterministic: bool = False,
        cuda_graph: bool = False,
    ) -> None:
        if threads is not None and threads < 1:
            raise ValueError(f"threads={threads} is not positive; null leaves the choice to gptlab")
        if accelerator == "gpu" and not torch.cuda.is_available():
            raise ValueError("accelerator=gpu: torch sees no GPU here; use trainer=cpu or trainer=auto")
        available = "gpu" if torch.cuda.is_available() else "cpu"
        self.accelerator = available if accelerator == "auto" else accelerator
        if strategy == "fsdp" and self.accelerator == "cpu":
            raise ValueError("strategy=fsdp shares weights among GPUs only; use trainer=ddp on CPUs")
        if precision == "tf32" and self.accelerator == "cpu":
            raise ValueError("precision=tf32 is a thing of GPUs; use precision=32-true on CPUs")
        self.strategy, self.devices, self.nodes = strategy, devices, nodes
        self.deterministic, self.cuda_graph = deterministic, cuda_graph
        if cuda_graph and (self.accelerator == "cpu" or strategy != "single"):
            raise ValueError("cuda_graph=true is for one process on a GPU (trainer=gpu); say trainer.cuda_graph=false")
        self._refuse_bad_device_counts()
        # older GPUs emulate bfloat16, slower than float32
        full_precision = self.accelerator == "cpu" or not torch.cuda.is_bf16_supported(including_emulation=False)
        self.precision = ("32-true" if full_precision else "bf16-mixed") if precision == "auto" else precision
        self.threads = threads or self._choose_threads()

    def _choose_threads(self) -> int:
        if self.accelerator == "cpu" and self.devices == 1:
            return choose_threads()
        return max(1, DEFAULT_THREADS // self.devices)

    def _refuse_bad_device_counts(self) -> None:
        """Refuse more devices than there are, several where one process runs, or not as many as a launcher started."""
        devices, nodes = self.devices, self.nodes
        available = torch.cuda.device_count() if self.accelerator == "gpu" else os.cpu_count() or 1
        if not 1 <= devices <= available:
            kind = {"gpu": "GPU", "cpu": "CPU core"}[self.accelerator] + ("s" if available > 1 else "")
            raise ValueError(f"devices={devices}: this machine has {available} {kind}; give 1 to {available}")
        if nodes < 1:
            raise ValueError(f"nodes={nodes} is not positive; try 1")
        if self.strategy == "single" and devices * nodes > 1:
            raise ValueError(f"devices={devices} x nodes={nodes} make more than one process; use trainer=ddp")
        world_size = os.environ.get("WORLD_SIZE") or os.environ.get("SLURM_NTASKS")
        if nodes > 1 and not world_size:
            raise ValueError(
                f"nodes={nodes}: a launcher must start the processes: torchrun or srun, see docs/devices.md"
            )
        if self.strategy != "single" and (tasks := count_slurm_tasks()) not in (None, devices * nodes):
            raise ValueError(
                f"devices={devices} x nodes={nodes} is not SLURM_NTASKS={tasks}, which Slurm started: srun "
                f"--ntasks-per-node={devices} starts one for each, SLURM_JOB_NAME=interactive lets Lightning start them"
            )
        if os.environ.get("WORLD_SIZE", str(devices * nodes)) != str(devices * nodes):
            raise ValueError(
                f"devices={devices} x nodes={nodes} is not WORLD_SIZE={world_size}, which the launcher started"
            )

    def __call__(self, **kwargs: Any) -> Any:
        """Return the Trainer; `kwargs` are what the run adds."""
        from lightning import Trainer  # late: a refused value must not wait for it
        from lightning.pytorch.strategies import ModelParallelStrategy

        torch.set_num_threads(self.threads)
        if self.accelerator == "gpu":
            torch.set_float32_matmul_precision("high" if self.precision == "tf32" else "highest")
        strategy: Any = {"single": "auto", "ddp": "ddp", "fsdp": None}[self.strategy]
        if self.strategy == "fsdp":
            # one file of whole tensors, which any number of devices can resume from
            world_size = self.devices * self.nodes
            strategy = ModelParallelStrategy(world_size, 1, save_distributed_checkpoint=False)
        trainer = Trainer(
            accelerator=self.accelerator,
            strategy=strategy,
            devices=self.devices,
            num_nodes=self.nodes,
            # to Lightning tf32 is float32: only torch's products, set above, know of it
            precision="32-true" if self.precision == "tf32" else self.precision,  # type: ignore[arg-type]
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            # steps end a run: batches are drawn by their number, so there are no epochs
            max_epochs=-1,
            deterministic=self.deterministic,
            **kwargs,
        )
        # it would wait for the GPU at every micro-batch; StopOnSignal asks the processes over gloo, once a step
        trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None
        return trainer
