// The table: which rows there are, in which order, and the few of them that are drawn.
// What stands in a row is written in row.js.

import { compareDecimals } from "./relay.js";
import { Row } from "./row.js";

// Rows drawn beyond each edge, for the scroll that is about to come.
const BEYOND = 6;
// Letters from which on a search may mean another name, such as bitcoin.
const NAME_MIN = 3;

const decimal = (field) => (a, b) => {
  if (!a[field] || !b[field]) return (a[field] ? 1 : 0) - (b[field] ? 1 : 0);
  return compareDecimals(a[field], b[field]);
};

// What moves is sorted once a second, so that a row can be read before it goes.
const ORDERS = {
  name: null,
  price: decimal("price"),
  change: decimal("change_24h_pct"),
  source: (a, b) => (a.source ?? "").localeCompare(b.source ?? ""),
  age: (a, b) => (b.received_ms ?? 0) - (a.received_ms ?? 0),
};

export class Table {
  #rows = new Map();
  #free = [];
  #dirty = new Set();
  #order = [];
  #index = new Map();
  #members = "";
  #frame = 0;

  constructor({ grid, body, sparks, drawn, arranged }) {
    Object.assign(this, { grid, body, sparks, drawn, arranged });
    this.prices = new Map();
    this.list = null;
    this.text = "";
    this.called = [];
    this.sorted = { by: "name", down: false };
    this.active = "";
    this.nowMs = () => Date.now();
    grid.addEventListener("scroll", () => this.#draw(), { passive: true });
    grid.addEventListener("keydown", (event) => this.#press(event));
    body.addEventListener("click", ({ target }) => {
      const root = target.closest(".row");
      const row = [...this.#rows.values()].find((one) => one.root === root);
      if (row) this.activate(row.name);
    });
    new ResizeObserver(() => this.#measure()).observe(grid);
  }

  /** Take in what has changed; it is drawn with the next frame. */
  take({ changed, gone, prices }) {
    const news = gone.length > 0 || changed.some((name) => !this.prices.has(name));
    this.prices = new Map(prices);
    for (const name of changed) {
      const { price, received_ms: ms } = prices.get(name);
      this.sparks.note(name, ms, price);
      if (this.#rows.has(name)) this.#dirty.add(name);
    }
    gone.forEach((name) => this.sparks.forget(name));
    if (news) this.arrange();
    this.#draw();
  }

  /** Learn what else instruments are called: a search finds them by that as well. */
  call(names) {
    this.called = Object.entries(names).map(([name, instrument]) => [name.toUpperCase(), baseOf(instrument)]);
    if (this.text) this.arrange();
  }

  /** Choose which rows there are and how they are sorted. */
  show({ list = this.list, text = this.text, by = this.sorted.by, down = this.sorted.down }) {
    Object.assign(this, { list, text, sorted: { by, down } });
    this.grid.scrollTop = 0;
    this.arrange();
    this.#draw();
  }

  /** Note each second: what is sorted by what moves is sorted anew, ages grow. */
  tick() {
    if (this.sorted.by !== "name") this.arrange();
    const now = this.nowMs();
    for (const [name, row] of this.#rows) {
      row.fillAge(now);
      row.fillSpark(this.sparks.of(name));
    }
    this.#draw();
  }

  arrange() {
    const { by, down } = this.sorted;
    const wanted = this.text.trim().toUpperCase().replace("/", "-");
    const from = by === "name" && !down && this.list ? this.list : [...this.prices.keys()].sort();
    const among = this.list && new Set(this.list);
    const bases = this.#meant(wanted);
    const names = from.filter(
      (name) => this.prices.has(name) && (name.includes(wanted) || bases.has(baseOf(name))) && (!among || among.has(name)),
    );
    const order = ORDERS[by];
    const sign = down ? -1 : 1;
    // The order by name stays among equals, since sorting keeps it.
    if (order) names.sort((a, b) => sign * order(this.prices.get(a), this.prices.get(b)));
    else if (down) names.reverse();
    const members = names.join(" ");
    if (members === this.#members) return;
    this.#members = members;
    this.#order = names;
    this.#index = new Map(names.map((name, index) => [name, index]));
    this.grid.setAttribute("aria-rowcount", names.length + 1);
    this.#measure();
    this.arranged(names.length);
  }

  #meant(wanted) {
    if (wanted.length < NAME_MIN) return new Set();
    return new Set(this.called.filter(([name]) => name.startsWith(wanted)).map(([, base]) => base));
  }

  #measure() {
    this.height = parseFloat(getComputedStyle(this.body).getPropertyValue("--row")) * rem();
    this.body.style.height = `${this.#order.length * this.height}px`;
    this.view = this.grid.clientHeight;
    this.#draw();
  }

  #draw() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#place();
      for (const name of this.#dirty) this.#rows.get(name)?.fill(this.prices.get(name));
      this.#dirty.clear();
      this.drawn();
    });
  }

  #place() {
    const top = this.grid.scrollTop;
    const first = Math.max(0, Math.floor(top / this.height) - BEYOND);
    const last = Math.min(this.#order.length, Math.ceil((top + this.view) / this.height) + BEYOND);
    for (const [name, row] of this.#rows) {
      const index = this.#index.get(name) ?? -1;
      if (index < first || index >= last) this.#drop(name, row);
    }
    let before = null;
    for (let index = first; index < last; index++) {
      const name = this.#order[index];
      const row = this.#rows.get(name) ?? this.#take(name);
      row.place(index, this.height);
      // Readers go by the order of the page and not by what it looks like.
      const next = before ? before.nextSibling : this.body.firstChild;
      if (next !== row.root) this.body.insertBefore(row.root, next);
      before = row.root;
    }
    this.#mark();
  }

  #take(name) {
    const row = this.#free.pop() ?? new Row();
    row.bind(name);
    row.fill(this.prices.get(name));
    row.fillAge(this.nowMs());
    row.fillSpark(this.sparks.of(name));
    this.#rows.set(name, row);
    return row;
  }

  #drop(name, row) {
    this.#rows.delete(name);
    this.#free.push(row);
    row.root.remove();
    this.sparks.only((one) => this.#rows.has(one));
  }

  // ------------------------------------------------------------- the active row

  activate(name) {
    this.active = name;
    const index = this.#index.get(name);
    if (index === undefined) return;
    const head = this.body.offsetTop;
    const at = index * this.height;
    const view = this.view - head;
    if (at < this.grid.scrollTop) this.grid.scrollTop = at;
    else if (at + this.height > this.grid.scrollTop + view) {
      this.grid.scrollTop = at + this.height - view;
    }
    this.#draw();
  }

  /** Make the first row the active one. */
  first() {
    if (this.#order.length) this.activate(this.#order[0]);
  }

  #mark() {
    const row = this.#rows.get(this.active);
    if (this.marked !== row?.root) {
      this.marked?.classList.remove("active");
      this.marked?.removeAttribute("aria-selected");
      this.marked = row?.root;
      this.marked?.classList.add("active");
      this.marked?.setAttribute("aria-selected", "true");
    }
    if (row) this.grid.setAttribute("aria-activedescendant", row.root.id);
    else this.grid.removeAttribute("aria-activedescendant");
  }

  #press(event) {
    if (event.target !== this.grid || event.ctrlKey || event.metaKey || event.altKey) return;
    const page = Math.max(1, Math.floor(this.view / this.height) - 1);
    const end = this.#order.length - 1;
    const at = this.#index.get(this.active) ?? -1;
    const goal = {
      ArrowDown: at + 1, ArrowUp: at < 0 ? 0 : at - 1, PageDown: at + page, PageUp: at - page,
      Home: 0, End: end,
    }[event.key];
    if (goal === undefined || end < 0) return;
    event.preventDefault();
    this.activate(this.#order[Math.min(end, Math.max(0, goal))]);
  }
}

const baseOf = (name) => name.slice(0, name.lastIndexOf("-"));

function rem() {
  return parseFloat(getComputedStyle(document.documentElement).fontSize);
}
