"""Text of apps and clients as messages and the log may hold it: bounded, and quoted. Pure."""

# The longest text of one log message, in characters.
MAX_TEXT = 65_536

# The longest name of a logger or a class in a message.
MAX_NAME = 1000


def clip(text: str) -> str:
    """Return the text, shortened in its middle if it is too long for a message."""
    if len(text) <= MAX_TEXT:
        return text
    half = MAX_TEXT // 2
    return f"{text[:half]}\n… {len(text) - 2 * half} characters left out …\n{text[-half:]}"


def clip_name(name: str) -> str:
    """Return a name, shortened at its end if it is too long for a message."""
    return name if len(name) <= MAX_NAME else f"{name[:MAX_NAME]}…"


def quote_line(text: str) -> str:
    """Return text from outside on one line, with what is not printable as Python shows it."""
    return text if text.isprintable() else repr(text)[1:-1]


def quote_lines(text: str) -> str:
    """Return text as the node shows it: lines after the first are indented, so that none of them
    passes for another event.
    """
    return "\n    ".join(map(quote_line, text.rstrip("\n").split("\n")))
