"""Messages of PyTorch, diffusers and other libraries: held back during an export, and shown after a failure."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from sdtrt.errors import ImageWarning
from sdtrt.process.streams import print_message
from sdtrt.process.text import printable

LIBRARIES = ("diffusers", "huggingface_hub", "onnx", "onnx_ir", "onnxscript", "torch", "torchao", "transformers")
SHOWN = 40  # lines, the last ones


class Messages(logging.Handler):
    """A log handler that keeps messages below the level ERROR and prints errors at once."""

    def __init__(self, *, verbose: bool) -> None:
        super().__init__(logging.DEBUG)
        self.verbose = verbose
        self.lines: dict[str, None] = {}  # an ordered set
        self._former: dict[logging.Logger, tuple[list[logging.Handler], bool]] = {}

    def add(self, text: str) -> None:
        """Keep the lines of a text; of a progress bar, which redraws its line, only the last state."""
        for line in text.replace("\r\n", "\n").split("\n"):
            if last := line.rpartition("\r")[2].strip():
                self.lines[last] = None

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = f"{record.name}: {record.getMessage()}"
        except Exception:  # the message does not fit its arguments; this must not end the library's work
            text = f"{record.name}: {record.msg}"
        if record.levelno >= logging.ERROR:
            print_message(text)
        else:
            self.add(text)

    def attach(self) -> None:
        """Replace the handlers of all loggers of the libraries that exist by now."""
        if self.verbose:
            return
        names = {name for name in logging.root.manager.loggerDict if name.partition(".")[0] in LIBRARIES}
        for logger in map(logging.getLogger, sorted(names | {*LIBRARIES})):
            if logger not in self._former:
                self._former[logger] = logger.handlers, logger.propagate
            is_root = logger.name in LIBRARIES
            logger.handlers, logger.propagate = [self] if is_root else [], not is_root

    def detach(self) -> None:
        for logger, (handlers, propagate) in self._former.items():
            logger.handlers, logger.propagate = handlers, propagate


_messages: ContextVar[Messages | None] = ContextVar("messages", default=None)


@contextmanager
def captured(*, verbose: bool) -> Iterator[Messages]:
    """Keep warnings and log messages of libraries, and print them on standard error if the block fails.

    With `verbose` nothing is kept. Messages of this package are printed at once. Call `attach` again after importing a
    library within the block.
    """
    messages = Messages(verbose=verbose)
    token = _messages.set(messages)
    messages.attach()
    try:
        with contextlib.nullcontext() if verbose else _kept_warnings(messages):
            yield messages
    except Exception:
        show(messages)
        raise
    finally:
        messages.detach()
        _messages.reset(token)


@contextmanager
def quietly() -> Iterator[None]:
    """Keep all output and warnings of a library call; outside of `captured` they are dropped."""
    messages = _messages.get()
    if messages is not None and messages.verbose:
        yield
        return
    store = messages or Messages(verbose=False)
    text = io.StringIO()
    try:
        with _kept_warnings(store), contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
            yield
    finally:
        store.add(text.getvalue())


@contextmanager
def _kept_warnings(messages: Messages) -> Iterator[None]:
    with warnings.catch_warnings():
        show_former = warnings.showwarning

        def keep(message: Warning | str, category: type[Warning], *place: Any) -> None:
            if issubclass(category, ImageWarning):
                show_former(message, category, *place)
            else:
                messages.add(f"{category.__name__}: {message}")

        warnings.simplefilter("always")
        warnings.showwarning = keep  # type: ignore[assignment]
        yield


def show(messages: Messages) -> None:
    if messages.lines:
        print_message("sdtrt: messages of libraries before the failure:")
        for line in list(messages.lines)[-SHOWN:]:
            print_message(f"    {printable(line)}")
