"""The most that a GPU can do, from its maker's data sheet, so that a run can say how much of it is used (MFU).

Dense products (a data sheet's figure "with sparsity" is twice as high), in TFLOP/s: bfloat16 with sums in float32,
TF32, float32. A name that does not stand here word for word, a laptop's or a slice of a GPU, has no known peak: no MFU.
"""

import re

TERA = 1e12
PEAKS: dict[str, tuple[float | None, float | None, float]] = {
    r"NVIDIA B200": (2250, 1125, 75),  # HGX B200, of 8: 36 PFLOP/s, 18 PFLOP/s sparse; 600 TFLOP/s
    r"NVIDIA H200|NVIDIA H100 80GB HBM3|NVIDIA GH200 480GB": (989.4, 494.7, 66.9),  # H100 white paper, SXM5
    r"NVIDIA H100 PCIe": (756, 378, 51.2),  # H100 white paper, PCIe
    r"NVIDIA A100-(SXM4|PCIE)-[48]0GB|NVIDIA A100 80GB PCIe": (312, 156, 19.5),  # A100 data sheet
    r"NVIDIA L40S": (362.05, 183, 91.6),  # L40S data sheet
    r"NVIDIA L4": (121, 60, 30.3),  # L4 data sheet, half its sparse figures
    r"NVIDIA A40": (149.7, 74.8, 37.4),  # A40 data sheet
    r"NVIDIA RTX A6000": (154.8, 77.4, 38.7),  # GA102 white paper
    r"NVIDIA GeForce RTX 3090": (71, 35.6, 35.6),  # GA102 white paper
    r"NVIDIA GeForce RTX 4090": (165.2, 82.6, 82.6),  # Ada white paper
    r"NVIDIA GeForce RTX 5090": (209.5, 104.8, 104.8),  # RTX Blackwell white paper
    r"Tesla T4": (None, None, 8.1),  # T4 data sheet
    r"Tesla V100-SXM2-(16|32)GB": (None, None, 15.7),  # V100 data sheet
    r"Tesla V100-PCIE-(16|32)GB": (None, None, 14.0),  # V100 data sheet
    r"AMD Instinct MI300X": (1307.4, 653.7, 163.4),  # MI300X data sheet
}
"""torch.cuda.get_device_name, and the three figures; None where the GPU has no such products."""


def find_peak_flops(name: str, precision: str) -> float | None:
    """Return the FLOP/s of a GPU by its name and the trainer's precision, None where they are unknown."""
    column = {"bf16-mixed": 0, "tf32": 1, "32-true": 2}[precision]
    peaks = next((figures for pattern, figures in PEAKS.items() if re.fullmatch(pattern, name)), None)
    tera = peaks[column] if peaks else None
    return tera * TERA if tera else None
