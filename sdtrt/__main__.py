"""The program: `sdtrt`, or `python -m sdtrt`. It is the command line in a process of its own."""

import atexit
import signal
import sys

from sdtrt.process import signals, streams


def program() -> int:
    """Run the command line and return the exit code; a signal that ends the work ends the process, too."""
    signals.end_silently()  # while the rest is imported
    streams.open_missing()
    number: int | None = None
    code = 0
    try:
        from sdtrt.cli import main

        code = main()
    except KeyboardInterrupt:
        number = signal.SIGINT
    except signals.SignalExit as error:
        number = error.number
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    signals.end_silently()  # while Python ends
    code = code if streams.close_all() else code or 1
    if number is None:
        return code
    atexit._run_exitfuncs()  # the signal leaves no time for them: semaphores of processes would stay, with a warning
    return signals.die(number)


if __name__ == "__main__":
    sys.exit(program())
