"""What ``relay top`` and ``relay status`` show; narrow screens get fewer columns.

Pure. Who asks and paints stands in ``top`` and ``status``.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Final

from msgspec import Struct
from rich.cells import cell_len
from rich.console import (
    Console,
    ConsoleOptions,
    Group,
    RenderableType,
    RenderResult,
)
from rich.padding import Padding
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from relay.client import ClientError, Prices, State, Status, Ticker, Way
from relay.client.question import without_login
from relay.client.status import Budget, Source, Stream

_GAUGE_CELLS: Final = 10
# Columns from which bid and ask fit beside the longest prices.
_WIDE: Final = 100
# Cells between two columns.
_GAP: Final = 2
# Narrower than this, budgets in words are a column of single words.
_BUDGETS_MIN: Final = 24
# Instruments without a value that are named on the first line.
_NAMED_MAX: Final = 3
# A budget that is this full deserves a look.
_TIGHT: Final = 0.8
_UNITS: Final = (
    (86_400_000, "d"),
    (3_600_000, "h"),
    (60_000, "min"),
    (1000, "s"),
)
_STYLE_OF_STATE: Final[dict[State, str]] = {
    "live": "bold green",
    "stale": "bold yellow",
    "connecting": "bold yellow",
    "reconnecting": "bold red",
}


class Scene(Struct):
    """What is known at one moment. ``now_ms`` is the relay's clock."""

    url: str
    now_ms: int = 0
    state: State = "connecting"
    way: Way | None = None
    error: ClientError | None = None
    prices: Prices | None = None
    status: Status | None = None


def plain(text: str) -> str:
    """Return text without anything that a terminal would obey."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def cell(text: str, style: str = "") -> Text:
    """Return text as it stands, whatever brackets and control characters it has."""
    return Text(plain(text), style)


def span(ms: float) -> str:
    """Write a length of time in its largest fitting unit."""
    for unit_ms, unit in _UNITS:
        if ms >= unit_ms:
            return f"{ms / unit_ms:.0f} {unit}"
    return f"{max(ms, 0):.0f} ms"


def age(ms: float | None) -> str:
    """Write how old something is: seconds with a tenth, longer ones in their unit."""
    if ms is None:
        return "never"
    seconds = max(ms, 0) / 1000
    return f"{seconds:.1f} s" if seconds < 100 else span(ms)  # noqa: PLR2004 - two digits


def change(ticker: Ticker) -> Text:
    """Write the day's change with its sign, to two decimals; the colour only helps."""
    try:
        pct = ticker.decimal("change_24h_pct")
        shown = f"{pct.quantize(Decimal('0.01')):+}%" if pct is not None else ""
    except InvalidOperation:  # no number, or one beyond all sense
        return Text()
    return Text(shown, "red" if shown.startswith("-") else "green")


def notes(ticker: Ticker) -> str:
    """Write what else must be known of a value: where from, and whether it is old."""
    via = f" via {plain(ticker.via)}" if ticker.via else ""
    return f"{plain(ticker.source)}{via}{' STALE' if ticker.stale else ''}"


class Column(Struct, kw_only=True):
    """One column: its cells, and when it goes where there is no room for all.

    ``goes`` counts from 1, the first to go; 0 stays. ``least`` are the cells that it
    takes at the least. What ``wraps`` needs no more, whatever stands in it.
    """

    name: str
    cells: list[Text]
    right: bool = False
    goes: int = 0
    least: int = 0
    wraps: bool = False

    @property
    def width(self) -> int:
        """How many cells it takes."""
        cells = () if self.wraps else (one.cell_len for one in self.cells)
        return max(self.least, cell_len(self.name), *cells)


class Columns:
    """A table that leaves columns out where they do not fit, and so cuts no number."""

    def __init__(self, *columns: Column) -> None:
        self._columns = columns

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> RenderResult:
        """Write the columns that there is room for."""
        del console
        padding = (0, _GAP, 0, 0)
        table = Table(box=None, pad_edge=False, padding=padding, header_style="dim")
        kept = self._that_fit(options.max_width)
        for one in kept:
            table.add_column(
                one.name,
                justify="right" if one.right else "left",
                no_wrap=not one.wraps,
            )
        for row in zip(*(one.cells for one in kept), strict=True):
            table.add_row(*row)
        yield table

    def _that_fit(self, width: int) -> list[Column]:
        kept = list(self._columns)
        may_go = sorted((one for one in kept if one.goes), key=lambda one: one.goes)
        for one in may_go:
            if sum(each.width + _GAP for each in kept) - _GAP <= width:
                break
            kept.remove(one)
        return kept


class Annotated:
    """A table whose rows have words beneath them, which wrap so that no cell does."""

    def __init__(self, table: Columns, words: Sequence[Sequence[str]]) -> None:
        self._table, self._words = table, words

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> RenderResult:
        """Write the head, then each row with its words."""
        # No cell wraps, so that each line is a row's, the first the head's.
        lines = console.render_lines(self._table, options)
        for line, words in zip(lines, ([], *self._words), strict=True):
            yield from line
            yield Segment.line()
            for text in words:
                yield Padding(cell(text, "red"), (0, 0, 0, 2), expand=False)


class Paper(Struct, frozen=True):
    """What is drawn on: columns, lines (None: as many as it takes), and a measure.

    ``measure`` tells how many lines something takes.
    """

    width: int
    height: int | None
    measure: Callable[[RenderableType], int]


def price_table(
    prices: Prices, now_ms: int, width: int, rows_max: int | None
) -> RenderableType:
    """Return a row for each instrument; the rest is counted.

    Bid and ask are there where there is room for them.
    """
    names = sorted(prices)
    shown = names if rows_max is None else names[: max(rows_max, 1)]
    rows = [(name, prices[name]) for name in shown]
    changed = set(prices.changed)
    styles = ["bold" if name in changed else "" for name in shown]
    quotes = [
        Column(name="bid", cells=[cell(one.bid) for _, one in rows], right=True),
        Column(name="ask", cells=[cell(one.ask) for _, one in rows], right=True),
    ]
    table = Columns(
        Column(name="instrument", cells=list(map(cell, shown, styles))),
        Column(
            name="price",
            cells=[
                cell(one.price, style)
                for (_, one), style in zip(rows, styles, strict=True)
            ],
            right=True,
        ),
        Column(name="24 h", cells=[change(one) for _, one in rows], right=True, goes=2),
        *(quotes if width >= _WIDE else ()),
        Column(
            name="source",
            cells=[cell(notes(one), "yellow" if one.stale else "") for _, one in rows],
        ),
        Column(
            name="age",
            cells=[Text(_age_of(one, now_ms)) for _, one in rows],
            right=True,
            goes=1,
            # So that it does not come and go with the seconds.
            least=len("99.9 s"),
        ),
    )
    if len(shown) == len(names):
        return table
    return Group(table, Text(f"+{len(names) - len(shown)} more", "dim"))


def _age_of(ticker: Ticker, now_ms: int) -> str:
    return age(now_ms - ticker.received_ms) if ticker.received_ms else ""


def _state_of(source: Source) -> Text:
    if source.alive:
        return Text("alive", "green")
    if source.state == "unknown":
        return Text("unknown", "yellow")
    return Text("silent", "red")


def gauge(budget: Budget) -> str:
    """Draw how much of a budget is spent."""
    share = min(max(budget.used / budget.most, 0), 1) if budget.most else 0
    full = round(share * _GAUGE_CELLS)
    return "#" * full + "." * (_GAUGE_CELLS - full)


def _is_cooling(budget: Budget, now_ms: int) -> bool:
    return budget.cooling_until_ms > now_ms


def _spent(budget: Budget, now_ms: int) -> Text:
    """Write one budget in a few letters."""
    window = span(budget.window_ms).removeprefix("1 ")
    text = f"{plain(budget.limit)} {budget.used:g}/{budget.most:g} per {window}"
    if _is_cooling(budget, now_ms):
        return Text(f"{text}, cooling {_cooling(budget, now_ms)}", "bold red")
    tight = budget.used >= budget.most * _TIGHT
    return Text(text, "yellow" if tight else "")


def _cooling(budget: Budget, now_ms: int) -> str:
    return f"for {span(budget.cooling_until_ms - now_ms)}"


def _source_columns(rows: Sequence[tuple[str, Source]]) -> list[Column]:
    """Return what is told of every source: whether it lives, and how it was heard."""
    sources = [source for _, source in rows]
    return [
        Column(name="source", cells=[cell(name) for name, _ in rows]),
        Column(name="state", cells=list(map(_state_of, sources))),
        Column(
            name="shown",
            cells=[Text(str(one.shown)) for one in sources],
            right=True,
            goes=2,
        ),
        Column(
            name="heard", cells=[Text(age(one.age_ms)) for one in sources], right=True
        ),
    ]


def _source_table(status: Status, cells: Mapping[str, Text]) -> Columns:
    """Return a row for each source, with its budgets in short."""
    rows = sorted(status.sources.items())
    budgets = [cells.get(name, Text()) for name, _ in rows]
    return Columns(
        *_source_columns(rows),
        Column(name="budgets", cells=budgets, goes=1, least=_BUDGETS_MIN, wraps=True),
    )


def budgets_in_short(status: Status, now_ms: int) -> dict[str, Text]:
    """Write each exchange's budgets in one cell."""
    return {
        name: Text("; ").join(_spent(one, now_ms) for one in budgets)
        for name, budgets in status.budgets.items()
    }


def reasons(status: Status, name: str) -> list[str]:
    """Say why a source is not read as it should be; nothing where all is well."""
    source = status.sources[name]
    told = [source.reason] if source.reason else []
    if source.state != "unknown":
        told += [_broken(one) for one in status.streams.get(name, []) if _is_shut(one)]
    # Several of its streams may say the same, and the source what they say.
    return list(dict.fromkeys(told))


def _is_shut(stream: Stream) -> bool:
    return stream.state not in ("open", "")


def _broken(stream: Stream) -> str:
    return f"stream {stream.state}{f': {stream.error}' if stream.error else ''}"


def _flow(status: Status, name: str) -> Text:
    """Write how a source comes: by how many of its streams, or by request."""
    streams = status.streams.get(name, [])
    if not streams:
        return Text()
    if any(one.state == "unknown" for one in streams):
        return Text("unknown", "yellow")
    shut = sum(map(_is_shut, streams))
    words = f"{len(streams) - shut} of {len(streams)} open"
    return Text(words, "yellow" if shut else "")


def source_list(status: Status) -> "Annotated":
    """Return a row for each source, and beneath it why it is not as it should be."""
    rows = sorted(status.sources.items())
    flows = [_flow(status, name) for name, _ in rows]
    table = Columns(*_source_columns(rows), Column(name="streams", cells=flows, goes=1))
    return Annotated(table, [reasons(status, name) for name, _ in rows])


def budget_list(status: Status, now_ms: int) -> "Annotated":
    """Return a row for each limit, with its gauge; beneath it until when it cools."""
    rows = [
        (name, one)
        for name, budgets in sorted(status.budgets.items())
        for one in budgets
    ]
    used = [Text(f"{one.used:g}") for _, one in rows]
    most = [Text(f"{one.most:g}") for _, one in rows]
    table = Columns(
        Column(name="exchange", cells=[cell(name) for name, _ in rows]),
        Column(name="limit", cells=[cell(one.limit) for _, one in rows]),
        Column(name="spent", cells=used, right=True),
        Column(name="of", cells=most, right=True),
        Column(
            name="per", cells=[Text(span(one.window_ms)) for _, one in rows], goes=2
        ),
        Column(name="", cells=[Text(gauge(one)) for _, one in rows], goes=1),
    )
    words = [[_why(one, now_ms)] if _is_cooling(one, now_ms) else [] for _, one in rows]
    return Annotated(table, words)


def _why(budget: Budget, now_ms: int) -> str:
    reason = f": {budget.cooling_reason}" if budget.cooling_reason else ""
    return f"cooling {_cooling(budget, now_ms)}{reason}"


def clients(status: Status) -> str:
    """Count the clients by their way in."""
    by_way = sorted(status.instance.clients.items())
    counts = [f"{count} {plain(way)}" for way, count in by_way if count]
    return f"clients: {', '.join(counts) or 'none'}"


def summary(status: Status) -> list[str]:
    """Write the instance, the board and the leader in a line each."""
    instance, board, leader = status.instance, status.board, status.leader
    live = "live" if instance.live else "NOT LIVE"
    ready = "" if instance.ready else ", not ready"
    led = "no leader"
    if leader is not None and leader.alive:
        led = f"led by {plain(leader.holder)[:8]}"
    served = f"{live}{ready}; up {span(instance.uptime_ms)}, {clients(status)}"
    held = f"{board.instruments} instruments, {board.stale} stale"
    stored = f"{led}; store {plain(status.store)}"
    return [served, f"board {plain(board.name)}: {held}; {stored}"]


def complaints(status: Status) -> list[str]:
    """Write a line for every exchange that is not read, and why."""
    return [
        *(f"{name} refuses us: {why}" for name, why in sorted(status.refused.items())),
        *(f"{name} is off: {why}" for name, why in sorted(status.off.items())),
    ]


def _lines(texts: Iterable[str], style: str = "") -> list[RenderableType]:
    return [cell(text, style) for text in texts]


def draw_status(status: Status, now_ms: int) -> Group:
    """Draw one look at everything but the prices."""
    parts = _lines(summary(status))
    if status.sources:
        parts += ["", source_list(status)]
    if status.budgets:
        parts += ["", budget_list(status, now_ms)]
    told = complaints(status)
    if told:
        parts += ["", *_lines(told)]
    return Group(*parts)


def headline(scene: Scene) -> Text:
    """Write where the prices come from, and how the connection stands."""
    text = Text(f"relay {plain(without_login(scene.url))}  ")
    text.append(scene.state.upper(), _STYLE_OF_STATE[scene.state])
    if scene.way is not None:
        text.append(f" by {scene.way}")
    if scene.prices is not None and scene.prices.missing:
        text.append(f"  without a value: {named(scene.prices.missing)}")
    return text


def named(names: Sequence[str]) -> str:
    """Name the first few, and count the rest: a misspelt one must be seen as such."""
    first = [plain(name) for name in names[:_NAMED_MAX]]
    rest = len(names) - len(first)
    return ", ".join([*first, f"{rest} more"] if rest else first)


def draw_top(scene: Scene, paper: Paper) -> Group:
    """Draw everything; as many prices as there is room for."""
    above: list[RenderableType] = [headline(scene)]
    if scene.error is not None:
        above.append(cell(str(scene.error), "red"))
    below: list[RenderableType] = []
    if scene.status is not None:
        above.extend(_lines(summary(scene.status), "dim"))
        cells = budgets_in_short(scene.status, scene.now_ms)
        below.extend(["", _source_table(scene.status, cells)])
    above.append("")
    if scene.prices is None:
        return Group(*above, "No prices yet.", *below)
    room = None
    if paper.height is not None:
        # The table's head, and the line that counts the rest.
        room = paper.height - paper.measure(Group(*above, *below)) - 2
    table = price_table(scene.prices, scene.now_ms, paper.width, room)
    return Group(*above, table, *below)


def line_of(prices: Prices, name: str, clock: str) -> str:
    """Write one change as a line, for pipes and logs."""
    ticker = prices[name]
    words = [clock, plain(name), plain(ticker.price), str(change(ticker))]
    return " ".join([*(word for word in words if word), notes(ticker)])
