// How the relay is: its sources, budgets, instances and clients, from /v1/status.

import { ask } from "./door.js";
import { ago, element, write } from "./row.js";

const EVERY_MS = 2000;
// Behind a balancer each answer may be another instance's; one unheard for so long left.
const KEPT_MS = 60000;
const HIGH = 0.8;
const WAYS = { sse: "SSE", poll: "poll", ws: "WebSocket" };

const $ = (id) => document.getElementById(id);

export class System {
  #instances = new Map();

  constructor({ compare, told }) {
    Object.assign(this, { compare, told, open: false });
    document.addEventListener("visibilitychange", () => this.#again());
  }

  /** Ask from now on, or not any more. */
  turn(open) {
    this.open = open;
    if (!open) $("system").classList.add("waiting");
    this.#again();
  }

  #again() {
    clearTimeout(this.timer);
    if (this.open && !document.hidden) this.#ask();
  }

  async #ask() {
    const askedMs = Date.now();
    try {
      const answer = await ask("/v1/status");
      if (!answer.ok) throw new Error(String(answer.status));
      const status = await answer.json();
      if (!this.open) return;
      this.compare(status.instance.now_ms, askedMs, Date.now());
      this.show(status);
    } catch {
      // The indicator says so already; what was known stays, with its age.
    }
    clearTimeout(this.timer);
    if (this.open && !document.hidden) this.timer = setTimeout(() => this.#ask(), EVERY_MS);
  }

  show(status) {
    const now = status.instance.now_ms;
    this.told(status);
    this.showSources(status);
    this.showBudgets(status.budgets, now);
    this.showInstances(status.instance);
    this.showLeader(status);
    // All at once, so that nothing is pushed about while the page fills.
    $("system").classList.remove("waiting");
  }

  showSources({ sources, streams, refused, off }) {
    const rows = Object.entries(sources).sort(([a], [b]) => a.localeCompare(b));
    const items = rows.map(([name, source]) => sourceLine(name, source, streams[name] ?? [], refused[name]));
    for (const [name, reason] of Object.entries(off)) {
      items.push({ kind: "", name, word: "off", more: String(reason) });
    }
    lines($("sources"), items, "No source has reported yet.");
  }

  showBudgets(budgets, now) {
    const all = Object.entries(budgets).flatMap(([exchange, limits]) =>
      limits.map((limit) => ({ exchange, ...limit })),
    );
    const room = $("budgets");
    while (room.children.length > all.length) room.lastChild.remove();
    while (room.children.length < all.length) gauge(room);
    all.forEach((limit, index) => fillGauge(room.children[index], limit, now));
  }

  showInstances(instance) {
    const now = Date.now();
    this.#instances.set(instance.id, { instance, seenMs: now });
    for (const [id, { seenMs }] of this.#instances) {
      if (now - seenMs > KEPT_MS) this.#instances.delete(id);
    }
    const items = [...this.#instances.values()].map(({ instance: one }) => {
      const clients = Object.entries(one.clients).filter(([, count]) => count);
      return {
        kind: one.live ? "good" : one.ready ? "poor" : "bad",
        name: `${one.id} · ${one.version}`,
        word: one.live ? "live" : one.ready ? "stale" : "not ready",
        more: `up ${ago(one.uptime_ms)} · ${clients.map(([way, count]) => `${count} ${WAYS[way] ?? way}`).join(", ") || "no clients"}`,
      };
    });
    lines($("instances"), items, "");
  }

  showLeader({ leader, store, board, instance }) {
    const number = new Intl.NumberFormat();
    const facts = [
      ["Leader", leader ? `${leader.holder || "nobody"}${leader.alive ? "" : ", not beating"}` : "unknown"],
      ["Store", store],
      ["Board", `${board.name}, ${number.format(board.instruments)} instruments`],
      ["Sent", `${number.format(instance.counts.deliveries ?? 0)} frames`],
      ["Cut off", number.format(instance.counts.cut_off ?? 0)],
    ];
    const room = $("leader");
    if (!room.children.length) {
      for (const [name] of facts) {
        element(room, "dt", "", name);
        element(room, "dd", "");
      }
    }
    facts.forEach(([, words], index) => write(room.children[2 * index + 1], words));
  }
}

function sourceLine(name, source, streams, refused) {
  const unknown = source.state === "unknown";
  const open = streams.filter(({ state }) => state === "open").length;
  const broken = streams.find((one) => one.error && one.state !== "open");
  const error = unknown ? source.reason : refused ? text(refused) : source.reason || broken?.error;
  const why = error?.startsWith(`${name} `) ? error.slice(name.length + 1) : error;
  // Nobody who ingests, nobody who knows: its reason says when it was heard.
  if (unknown) return { kind: "poor", name, word: "unknown", more: why };
  const flow = streams.length ? flowing(open, streams.length) : "by request";
  const kind = !source.alive ? "bad" : why || open < streams.length ? "poor" : "good";
  const word = source.alive ? `${source.shown} shown` : "silent";
  const heard = source.age_ms === null || source.age_ms === undefined ? "not heard yet" : `heard ${ago(source.age_ms)} ago`;
  return { kind, name, word, more: [flow, heard, why].filter(Boolean).join(" · ") };
}

function flowing(open, all) {
  if (open < all) return `${open} of ${all} streams open`;
  return all === 1 ? "stream open" : `${all} streams open`;
}

const text = (what) => (typeof what === "string" ? what : JSON.stringify(what));

// Lines are written where they stand, so that nothing moves and no reader starts again.
function lines(room, items, none) {
  const wanted = items.length ? items : [{ kind: "", name: none, word: "", more: "" }];
  while (room.children.length > wanted.length) room.lastChild.remove();
  while (room.children.length < wanted.length) {
    const item = element(room, "li");
    element(item, "span", "dot").setAttribute("aria-hidden", "true");
    element(item, "span", "");
    element(item, "span", "word");
    element(item, "small");
  }
  wanted.forEach(({ kind, name, word, more }, index) => {
    const item = room.children[index];
    const [, title, state, small] = item.children;
    if (item.className !== kind) item.className = kind;
    write(title, name);
    write(state, word);
    write(small, more);
  });
}

function gauge(room) {
  const item = element(room, "div", "budget");
  const words = element(item, "div", "words");
  element(words, "span");
  element(words, "span");
  const meter = element(item, "div", "gauge");
  meter.setAttribute("role", "meter");
  element(meter, "i");
}

function fillGauge(item, { exchange, limit, used, most, window_ms: windowMs, cooling_until_ms: until }, now) {
  const [words, meter] = item.children;
  const share = most > 0 ? Math.min(1, used / most) : 0;
  const cooling = until > now;
  const name = `${exchange} ${limit}`;
  const spent = `${used} of ${most} in ${ago(windowMs)}`;
  item.className = `budget${cooling ? " cooling" : share >= HIGH ? " high" : ""}`;
  write(words.firstChild, name);
  write(words.lastChild, cooling ? `cools ${ago(until - now)} more` : spent);
  meter.setAttribute("aria-label", name);
  meter.setAttribute("aria-valuemin", 0);
  meter.setAttribute("aria-valuemax", most);
  meter.setAttribute("aria-valuenow", Math.min(used, most));
  meter.setAttribute("aria-valuetext", cooling ? `${spent}, cooling` : spent);
  meter.firstChild.style.transform = `scaleX(${share.toFixed(4)})`;
}
