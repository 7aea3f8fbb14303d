"""The one error that bad input raises: a single line that says file, place, value and what is allowed."""


class InputError(ValueError):
    """Bad input. The message is one line for the user; commands print it and exit with status 2."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(str(message).split()))


def unknown_name(kind: str, name: object, known: object) -> InputError:
    """Return the error for a name that is in no table: `unknown KIND 'NAME'; known: a, b, c`."""
    return InputError(f"unknown {kind} {str(name)!r}; known: {', '.join(sorted(map(str, known)))}")
