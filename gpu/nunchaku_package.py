"""Which package called nunchaku is installed: nunchaku-tech's engine, or PyPI's namesake. It is not imported.

The one on PyPI (0.16.1) is about piecewise-linear segments and has nothing to do with FLUX.
"""

from importlib.util import find_spec
from pathlib import Path

_ONLY_IN_THE_REAL_ONE = Path("models", "transformers", "transformer_flux.py")


def nunchaku_installed() -> bool:
    """Whether the engine is."""
    folder = _folder()
    return folder is not None and (folder / _ONLY_IN_THE_REAL_ONE).is_file()


def wrong_nunchaku() -> bool:
    """Whether the namesake is."""
    return _folder() is not None and not nunchaku_installed()


def _folder() -> Path | None:
    spec = find_spec("nunchaku")
    # Without an origin it is a bare folder that happens to be called so.
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent
