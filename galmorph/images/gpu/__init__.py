"""GPUs: tensors on their way to one, and kernels of its own."""
