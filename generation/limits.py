"""What a job may ask for. The model's own limits come on top: ``gpu.model_card``."""

MAX_PROMPT = 4_000
MAX_COUNT = 4
MAX_STEPS = 50
MAX_LORAS = 8
MAX_WEIGHT = 4.0
# The largest integer that JavaScript, and so every JSON client, keeps exactly.
MAX_SEED = 2**53 - 1
# Absolute bounds of a side in pixels, for every model; the database checks them.
MIN_SIDE, MAX_SIDE, SIDE_STEP = 64, 2048, 16
# Seeds that we choose are short enough to read out.
CHOSEN_SEEDS = 2**32
