"""The process group of a run; every method is a no-op where there is one process.

Values about the run go from CPU to CPU (gloo), so that no GPU is waited for. The first process decides, writes and
speaks; the others follow.
"""

import os
import signal
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, distributed

from gptlab.errors import Refused
from gptlab.runs.parent_process import PARENT

if TYPE_CHECKING:
    from lightning import Trainer


class ProcessGroup:
    """The processes of a Lightning Trainer's strategy: one for each device of each node."""

    def __init__(self, trainer: "Trainer") -> None:
        self.trainer = trainer
        self.rank, self.size = trainer.global_rank, trainer.world_size
        self.group: Any = None

    def start(self) -> None:
        """Start the other processes of this node, if no launcher did, and wait for all."""
        if self.size == 1 or self.group is not None:
            return
        strategy: Any = self.trainer.strategy
        threads, environment = torch.get_num_threads(), strategy.cluster_environment
        # They inherit this, and so outlive a Ctrl-C that finds them at their imports: this process would wait for them.
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            environment.validate_settings(num_devices=strategy.num_processes, num_nodes=strategy.num_nodes)
            if strategy.launcher is not None:
                os.environ[PARENT] = str(os.getpid())
                strategy.launcher.launch(lambda: None)
        except ValueError as error:
            raise Refused(f"trainer: {str(error).splitlines()[0]}") from error
        finally:
            os.environ.pop(PARENT, None)
            signal.signal(signal.SIGINT, handler)
        torch.set_num_threads(threads)  # Lightning has just chosen others
        os.environ.update(MASTER_ADDR=environment.main_address, MASTER_PORT=str(environment.main_port))
        device = strategy.root_device if strategy.root_device.type == "cuda" else None
        backend = "nccl" if device else "gloo"
        distributed.init_process_group(backend, rank=self.rank, world_size=self.size, device_id=device)
        self.group = distributed.new_group(backend="gloo")

    def destroy(self) -> None:
        """Part from the other processes after training: the first one evaluates, however long that takes."""
        if self.group is not None:
            distributed.destroy_process_group()
            self.group = None

    def kill_children(self) -> None:
        """Kill the processes that `start` started, if there still are any."""
        launcher: Any = self.trainer.strategy.launcher
        children = [*getattr(launcher, "procs", [])]
        if children:
            launcher.procs.clear()  # a thread of Lightning's watches them, and would kill this process with them
            os.environ.pop("LOCAL_RANK", None)
        for child in children:
            child.kill()
            child.wait()

    def broadcast(self, value: Any) -> Any:
        """Return the first process's value on every process."""
        if self.group is None:
            return value
        values = [value]
        distributed.broadcast_object_list(values, 0, self.group)
        return values[0]

    def all_reduce_max(self, *values: float) -> list[float]:
        """Return the maximum of each value over the processes."""
        return self._all_reduce(values, distributed.ReduceOp.MAX).tolist() if self.group else [*values]

    def all_reduce_mean(self, named: dict[str, float]) -> dict[str, float]:
        """Return the mean of each value over the processes."""
        if self.group is None:
            return named
        total = self._all_reduce(named.values(), distributed.ReduceOp.SUM)
        return dict(zip(named, (total / self.size).tolist(), strict=True))

    def _all_reduce(self, values: Any, operation: Any) -> Tensor:
        x = torch.tensor([*values], dtype=torch.float64)
        distributed.all_reduce(x, operation, self.group)
        return x
