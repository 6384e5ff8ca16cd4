"""Numbers as people say them."""


def duration(seconds: float | None) -> str:
    """A time: 0.4 s, 12 s, 2 min 5 s, 1 h 3 min; nothing when it was not measured."""
    if seconds is None:
        return ""
    seconds = max(seconds, 0)  # two clocks may differ by a blink
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest} s"
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


def place(position: int) -> str:
    """1st, 2nd, 3rd, 4th, 11th, 21st."""
    ending = {1: "st", 2: "nd", 3: "rd"}.get(position % 10, "th")
    return f"{position}{'th' if position % 100 in (11, 12, 13) else ending}"


def about(seconds: float | None) -> str:
    """An estimate, in whole seconds: ~9 s; nothing where nothing is known."""
    if seconds is None:
        return ""
    return f"~{max(1, round(seconds))} s" if seconds < 59.5 else f"~{duration(seconds)}"


def pictures(count: int) -> str:
    """1 picture, 1,284 pictures."""
    return f"{count:,} picture{'' if count == 1 else 's'}"


def clock(seconds: float) -> str:
    """0:41, 10:00, 1:03:20."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def megabytes(number: float) -> str:
    """34 MB, 4.6 GB, 5 GB: MB of a million bytes."""
    size, unit = (number, "MB") if number < 1000 else (number / 1000, "GB")
    if 0 < size < 10 or unit == "GB":
        return f"{max(size, 0.1):.1f}".removesuffix(".0") + f" {unit}"
    return f"{size:.0f} {unit}"


def readings(utilisation: float | None, celsius: int | None) -> str:
    """73 % busy, 61 °C: of a GPU, as far as it is known. A line ends only between the two."""
    busy = "" if utilisation is None else f"{100 * utilisation:.0f}\u00a0%\u00a0busy"
    warm = "" if celsius is None else f"{celsius}\u00a0°C"
    return ", ".join(filter(None, (busy, warm)))
