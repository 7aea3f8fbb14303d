"""The one error that bad input raises: a single line that says file, place, value and what is allowed."""


class InputError(ValueError):
    """Bad input. The message is one line for the user; commands print it and exit with status 2."""

    def __init__(self, message: str) -> None:
        # Names found in a damaged file may hold anything; a terminal gets what can be printed.
        line = " ".join(str(message).split())
        super().__init__("".join(letter if letter.isprintable() else "?" for letter in line))


def unknown_name(kind: str, name: object, known: object) -> InputError:
    """Return the error for a name that is in no table: `unknown KIND 'NAME'; known: a, b, c`."""
    return InputError(f"unknown {kind} {str(name)!r}; known: {', '.join(sorted(map(str, known)))}")
