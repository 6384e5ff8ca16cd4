"""The demo world, its renderer, and the training of the tiny FLUX that draws it."""
