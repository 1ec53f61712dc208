"""An app that cannot be imported."""


def deep():
    raise ZeroDivisionError("at import time")


deep()
