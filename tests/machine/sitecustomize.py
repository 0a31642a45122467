"""Turns features off in a Python that a test starts; on its path only while some are off."""

import features  # noqa: F401
