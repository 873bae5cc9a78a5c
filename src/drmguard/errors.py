"""The one error that a user can cause."""


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message is one sentence that says what was wrong, what was given and what to do.  The
    command line prints it without a traceback and exits with code 2.
    """
