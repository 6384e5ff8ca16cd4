"""GPUs: devices, workers and engines."""
