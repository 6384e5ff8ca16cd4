"""What the device's errors mean: too little memory can be answered, anything else ends the process."""

import torch

from gpu.engines.errors import DeviceFailed, EngineError, OutOfMemory

# How memory that ran out reads: torch's CUDA allocator raises a class of its own, the CPU's a RuntimeError
# ("DefaultCPUAllocator: can't allocate memory", torch 2.13), and nunchaku 1.2.1 a RuntimeError made of
# cudaGetErrorString ("CUDA error: out of memory", src/common.h).
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "cublas_status_alloc_failed")
# How a device that failed reads, where it is no torch.AcceleratorError.
_FAILED = ("cuda error", "hip error", "cublas_status", "cudnn_status", "cudnn error", "nvrtc error")


def told(error: BaseException) -> EngineError | None:
    """The error of ours that a RuntimeError or MemoryError stands for; None if it is not the device's."""
    text = str(error).lower()
    no_memory = isinstance(error, (torch.OutOfMemoryError, MemoryError))
    if no_memory or any(sign in text for sign in _OUT_OF_MEMORY):
        return OutOfMemory("The device has too little free memory.")
    if isinstance(error, torch.AcceleratorError) or any(sign in text for sign in _FAILED):
        return DeviceFailed(f"The device failed: {str(error).splitlines()[0]}")
    return None
