"""fluxsite: a self-hosted studio for FLUX.1-schnell."""

__version__ = "0.1.0"
