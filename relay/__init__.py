"""A polling-to-push relay for crypto prices.

::

    exchange ─frame─▶ exchanges ─update─▶ ingest ─batch─▶ store ─▶ hub ─▶ delivery
                      read it             keep the       Valkey   one      rest, poll,
                      (pure)              newest                  follower sse, ws

Five rooms and four ground modules: ``errors``, ``model``, ``config`` with its
``variables``, and ``clock``.
Imports point down, and reading and writing meet in the store only:
``ingest`` and ``delivery`` never know each other. ``tests/test_architecture.py``
holds both rules.
"""

from importlib.metadata import version

__version__ = version("price-relay")
