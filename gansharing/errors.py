"""The one exception that means "the user can mend this"."""


class UserError(ValueError):
    """Bad input: one line that says what is wrong, where, and how to mend it.

    The command line prints the message without a traceback and exits with status 2.
    Broken invariants of the library itself are ordinary exceptions, never this one.
    """
