// One row of the table: its cells, and how a ticker is written into them.
// Text reaches the page as text nodes only, so nothing in it can become markup.

import { compareDecimals, formatDecimal } from "./relay.js";
import { shape } from "./spark.js";

const SVG = "http://www.w3.org/2000/svg";

export function element(parent, kind, name, text = "") {
  const made = document.createElement(kind);
  if (name) made.className = name;
  if (text) made.textContent = text;
  parent.append(made);
  return made;
}

/** Write a text where it differs: most of what is drawn has not changed. */
export function write(into, text) {
  if (into.textContent !== text) into.textContent = text;
}

/** Say how old something is, in one unit. */
export function ago(ms) {
  const s = Math.max(0, Math.floor(ms / 1000));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  return s < 86400 ? `${Math.floor(s / 3600)} h` : `${Math.floor(s / 86400)} d`;
}

/** Write a change in percent: cut and not rounded, always with a sign. */
export function percent(text) {
  const [whole, part = ""] = text.replace(/^[-+]/, "").split(".");
  // Beside a thousand percent their hundredths say nothing.
  const digits = whole.length > 3 ? whole : `${whole}.${part.padEnd(2, "0").slice(0, 2)}`;
  const none = /^[0.]*$/.test(digits);
  const sign = none ? "" : text.startsWith("-") ? "−" : "+";
  return { words: `${sign}${formatDecimal(digits)} %`, direction: none ? "" : sign === "+" ? "up" : "down" };
}

/** Where a price stands between low and high, from 0 to 1: for a dot, not for reading. */
function share({ price, low_24h: low, high_24h: high }) {
  const span = Number(high) - Number(low);
  return span > 0 ? Math.min(1, Math.max(0, (Number(price) - Number(low)) / span)) : 0.5;
}

// Digits beyond these are shown, smaller: they are there for who looks closely.
const DIGITS = 8;
const ZEROS = 2;

/** Cut a price into what is read at a glance and the rest of its digits. */
export function glance(text) {
  const point = text.indexOf(".");
  if (point < 0) return [text, ""];
  const first = text.search(/[1-9]/);
  let end = Math.max(first < 0 ? 0 : first, 0) + DIGITS;
  // The point is no digit, where it stands among them.
  if (first < point) end += 1;
  // One or two zeros come and go as a price moves; a row of them is how it is written.
  const zeros = text.match(/0*$/)[0].length;
  if (zeros > ZEROS) end = Math.min(end, text.length - zeros);
  end = Math.max(end, point + 3);
  return [text.slice(0, end), text.slice(end)];
}

// Zeros at the end say the tick size, which the price beside these says already; two
// decimals stay, so that sums of money look like some.
const plain = (text) => text.replace(/(\.\d\d\d*?)0+$/, "$1");

// How wide a price is, in its large digits; from what is wider than a phone's column on,
// it is written smaller, so that every digit stands there and covers nothing.
const WIDTHS = [[21, "xs"], [18, "s"], [13.5, "m"]];
const TAIL = 0.7;
// Low and high together stand under a line that is so long.
const RANGE = 20;

function size(root, name) {
  if (root.dataset.size === name) return;
  if (name) root.dataset.size = name;
  else delete root.dataset.size;
}

let rows = 0;

export class Row {
  constructor() {
    const root = (this.root = document.createElement("div"));
    root.className = "row";
    root.id = `row-${++rows}`;
    root.setAttribute("role", "row");
    const cell = (name, role = "gridcell") => {
      const made = element(root, "div", name);
      made.setAttribute("role", role);
      return made;
    };
    const name = cell("name", "rowheader");
    this.base = element(name, "span", "base");
    this.quote = element(name, "span", "quote");
    const price = cell("price");
    this.sign = element(price, "span", "sign");
    this.sign.setAttribute("aria-hidden", "true");
    this.amount = element(price, "span", "amount");
    this.main = element(this.amount, "span", "");
    this.tail = element(this.amount, "span", "tail");
    this.change = cell("change");
    this.makeRange(cell("range"));
    this.makeSpark(cell("spark"));
    this.sides = cell("sides");
    const source = cell("source");
    this.source = element(source, "span", "exchange");
    this.notes = element(source, "span", "notes");
    this.age = cell("age");
    this.turn = 0;
  }

  makeRange(range) {
    this.range = range;
    this.low = element(range, "span", "low");
    const track = element(range, "span", "track");
    track.setAttribute("aria-hidden", "true");
    this.at = element(track, "i");
    this.high = element(range, "span", "high");
  }

  makeSpark(spark) {
    this.spark = spark;
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", "0 0 100 100");
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true");
    this.line = document.createElementNS(SVG, "polyline");
    svg.append(this.line);
    spark.append(svg);
  }

  /** Show another instrument from now on. */
  bind(name) {
    this.name = name;
    const cut = name.lastIndexOf("-");
    this.base.textContent = name.slice(0, cut);
    this.quote.textContent = name.slice(cut);
    this.ticker = null;
    this.sign.textContent = "";
    this.sign.className = "sign";
    delete this.amount.dataset.flash;
    this.drawn = "";
    this.line.setAttribute("points", "");
  }

  place(index, height) {
    if (this.index === index && this.height === height) return;
    this.index = index;
    this.height = height;
    this.root.style.transform = `translateY(${index * height}px)`;
    this.root.setAttribute("aria-rowindex", index + 2);
  }

  fill(ticker) {
    const before = this.ticker;
    if (ticker === before) return;
    this.ticker = ticker;
    if (ticker.price !== before?.price) {
      this.fillPrice(ticker.price ?? "");
      if (before?.price && ticker.price) this.flash(compareDecimals(ticker.price, before.price));
    }
    if (ticker.change_24h_pct !== before?.change_24h_pct) this.fillChange(ticker);
    this.fillRange(ticker);
    write(this.sides, [ticker.bid, ticker.ask].filter(Boolean).map((one) => formatDecimal(plain(one))).join(" / "));
    this.fillSource(ticker, before);
  }

  fillPrice(price) {
    const [, tail] = glance(price);
    const text = formatDecimal(price);
    const cut = text.length - tail.length;
    write(this.main, text.slice(0, cut));
    write(this.tail, text.slice(cut));
    const width = cut + TAIL * tail.length;
    size(this.root, WIDTHS.find(([least]) => width > least)?.[1]);
  }

  flash(direction) {
    if (!direction) return;
    const word = direction > 0 ? "up" : "down";
    this.sign.textContent = direction > 0 ? "▲" : "▼";
    this.sign.className = `sign ${word}`;
    this.turn ^= 1;
    this.amount.dataset.flash = word + this.turn;
  }

  fillChange({ change_24h_pct: change }) {
    const { words, direction } = change ? percent(change) : { words: "", direction: "" };
    write(this.change, words);
    this.change.className = `change ${direction}`;
  }

  fillRange(ticker) {
    const known = ticker.low_24h && ticker.high_24h;
    const [low, high] = known ? [ticker.low_24h, ticker.high_24h].map((one) => formatDecimal(plain(one))) : ["", ""];
    write(this.low, low);
    write(this.high, high);
    size(this.range, low.length + high.length > RANGE ? "s" : undefined);
    this.at.parentNode.hidden = !known;
    if (known) this.at.style.transform = `translateX(${(100 * share(ticker)).toFixed(1)}%)`;
  }

  fillSource(ticker, before) {
    const { source, via, stale } = ticker;
    if (before && source === before.source && via === before.via && stale === before.stale) return;
    this.source.textContent = source ?? "";
    this.notes.replaceChildren();
    if (via) element(this.notes, "span", "via", `via ${via}`);
    if (stale) element(this.notes, "span", "stale", "stale");
    this.root.classList.toggle("noted", Boolean(via || stale));
    this.root.classList.toggle("old", Boolean(stale));
  }

  /** Write the age; `nowMs` is the relay's clock. */
  fillAge(nowMs) {
    const at = this.ticker?.received_ms;
    write(this.age, at ? ago(nowMs - at) : "");
  }

  fillSpark(points) {
    const drawn = shape(points);
    if (drawn === this.drawn) return;
    this.drawn = drawn;
    this.line.setAttribute("points", drawn);
    const [first, last] = [points[0]?.[1], points.at(-1)?.[1]];
    const direction = first && last ? compareDecimals(last, first) : 0;
    this.spark.className = `spark ${direction > 0 ? "up" : direction < 0 ? "down" : ""}`;
  }
}
