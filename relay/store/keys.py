"""Every key of the store: its name, its type, who writes it.

No commands here: ``writer`` and ``reader`` send them.
"""

from msgspec import Struct


class Keys(Struct, frozen=True):
    """The keys of one board; they share one hash tag, and so one slot.

    ========= =========== ==================================================== ========
    key       type        holds                                                written
    ========= =========== ==================================================== ========
    lease     string, PX  holder, token, when it ends                          leader
    head      hash        epoch, offset, holder, token, floor, health          leader
    tickers   hash        instrument → the ticker's JSON                       leader
    log       stream      one entry a batch, marks between them                leader
    beat      string, PX  alive while someone ingests                          leader
    symbols   hash        instrument → the sources that list it                leader
    recent    list        of one instrument: a point each step, newest first   leader
    demand    sorted set  instrument → when it was last asked for              readers
    ========= =========== ==================================================== ========
    """

    board: str

    def _key(self, name: str) -> str:
        return f"relay:{{{self.board}}}:{name}"

    @property
    def lease(self) -> str:
        """Who may ingest."""
        return self._key("lease")

    @property
    def head(self) -> str:
        """Where the published sequence stands."""
        return self._key("head")

    @property
    def tickers(self) -> str:
        """The newest ticker of every instrument."""
        return self._key("tickers")

    @property
    def log(self) -> str:
        """What was published, in order."""
        return self._key("log")

    @property
    def beat(self) -> str:
        """There while someone ingests."""
        return self._key("beat")

    @property
    def symbols(self) -> str:
        """What the sources list."""
        return self._key("symbols")

    @property
    def demand(self) -> str:
        """What clients ask for."""
        return self._key("demand")

    def recent(self, instrument: str) -> str:
        """The last minutes of one instrument."""
        return self._key(f"recent:{instrument}")
