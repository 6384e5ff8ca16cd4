"""Train the demo model: `python -m demo.train vae|sharpen|flow|native|loras|export|all`."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

WORK = Path(__file__).parent / "work"


def _vae(options: argparse.Namespace) -> None:
    from demo.vae import train_vae

    train_vae(WORK, options.steps or 9000)


def _sharpen(options: argparse.Namespace) -> None:
    from demo.vae import sharpen_vae

    sharpen_vae(WORK, options.steps or 2200)


def _flow(options: argparse.Namespace) -> None:
    from demo.flow import train_flow

    train_flow(WORK, options.steps or 12000, options.minutes)


def _native(options: argparse.Namespace) -> None:
    from demo.flow import train_flow

    train_flow(WORK, options.steps or 12000, options.minutes, rate=1e-3, native=0.62)


def _loras(options: argparse.Namespace) -> None:
    from demo.loras import train_loras

    train_loras(WORK, options.steps or 850)


def _export(options: argparse.Namespace) -> None:
    from demo.export import export_model

    export_model(WORK)


STAGES = {
    "vae": _vae,
    "sharpen": _sharpen,
    "flow": _flow,
    "native": _native,
    "loras": _loras,
    "export": _export,
}


def main() -> None:
    """Run one stage, or all of them in turn; every stage goes on from its last checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=[*STAGES, "all"])
    parser.add_argument(
        "--steps", type=int, default=0, help="train until this step (0: the stage's usual number)"
    )
    parser.add_argument(
        "--minutes", type=float, default=0, help="end flow training after this long (0: by steps)"
    )
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for name, stage in STAGES.items():
        if options.stage in (name, "all"):
            stage(options)


if __name__ == "__main__":
    main()
