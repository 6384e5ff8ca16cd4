"""What can go wrong while drawing. The text of each is a sentence for the person who asked."""


class EngineError(Exception):
    """The picture was not drawn; the engine can draw the next one, unless ``DeviceFailed`` says otherwise."""

    code = "engine"


class Cancelled(EngineError):
    """``on_step`` asked to stop."""

    code = "cancelled"


class ModelFailed(EngineError):
    """The model could not be loaded."""

    code = "model"


class LoraFailed(EngineError):
    """A LoRA could not be applied, or not wholly."""

    code = "lora"


class InvalidOutput(EngineError):
    """The model produced NaN or infinity: there is no picture."""

    code = "invalid_output"


class InvalidSize(EngineError):
    """A side is not a multiple of 16: diffusers would round it down without a word."""

    code = "size"


class OutOfMemory(EngineError):
    """The device has too little memory for what was asked, even one picture at a time and in tiles."""

    code = "out_of_memory"


class DeviceFailed(EngineError):
    """The device reported an error that its driver does not recover from: the process must end."""

    code = "device"
