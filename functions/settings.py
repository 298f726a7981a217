"""The settings of a function, read once for as long as its instance lives.

What each of them means stands in ``relay.config``.
"""

import logging

from relay.config import Settings, load, misspelt


def read() -> Settings:
    """Read them; variables that look like ours and set nothing are named in the log.

    Raises:
        ConfigError: one of them is wrong.
    """
    log = logging.getLogger(__name__)
    for sentence in misspelt():
        log.warning(sentence)
    return load().settings
