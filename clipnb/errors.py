"""`InputError`, raised for every argument, file or folder that cannot be used."""


class InputError(ValueError):
    r"""An argument, file or folder that cannot be used; its text is one line: what, where, expected, got, way out.

    >>> InputError("got the name a\nb")
    InputError('got the name a b')
    """

    def __init__(self, text: str) -> None:
        super().__init__(" ".join(text.splitlines()))  # the input may itself contain newlines
