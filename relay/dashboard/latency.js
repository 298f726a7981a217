// The time from the exchange's stamp to this screen, over the last minute.
// Three clocks take part; how far ours is off is measured against the relay's.

import { element, write } from "./row.js";

const BOUNDS_MS = [50, 100, 200, 500, 1000, 2000, 5000, Infinity];
const LABELS = ["50", "100", "200", "500", "1 s", "2 s", "5 s", "more"];
const KEPT_S = 60;
// Enough to tell; a burst must not grow for ever.
const SAMPLES_MAX = 200;
// Clocks nearer than this agree as well as a round trip can tell.
const AGREE_MS = 250;
// A trip is as good as the shortest when it took no more than so many times as long …
const NEAR = 1.5;
// … and each one that took longer lets the shortest grow by so much.
const FORGOTTEN = 1.1;

export class Latency {
  #seconds = [[]];

  constructor({ bars, words, clock }) {
    Object.assign(this, { bars, words, clock });
    this.offMs = 0;
    this.fills = LABELS.map((label) => {
      const item = element(bars, "div");
      const fill = element(element(item, "span"), "i");
      item.append(label);
      return fill;
    });
  }

  /** Learn how far our clock is ahead of the relay's, from one answer's round trip. */
  compare(relayMs, askedMs, answeredMs) {
    const trip = answeredMs - askedMs;
    // The shortest trip says it best; it is forgotten slowly, since clocks drift, and
    // no network stays as quick as it was once.
    if (trip > (this.trip ?? Infinity) * NEAR) {
      this.trip *= FORGOTTEN;
      return;
    }
    this.trip = Math.max(1, trip);
    this.measured = (askedMs + answeredMs) / 2 - relayMs;
    this.offMs = Math.abs(this.measured) < Math.max(AGREE_MS, trip) ? 0 : this.measured;
    const s = Math.round(Math.abs(this.offMs) / 100) / 10;
    const side = this.offMs > 0 ? "ahead of" : "behind";
    write(this.clock, this.offMs ? `This machine's clock is ${s} s ${side} the relay's; that is taken out.` : "");
  }

  /** The relay's clock, as far as we know it. */
  nowMs() {
    return Date.now() - this.offMs;
  }

  note(tickers) {
    const samples = this.#seconds[0];
    const now = this.nowMs();
    for (const { event_ms: ms } of tickers) {
      if (samples.length >= SAMPLES_MAX) return;
      if (ms) samples.push(Math.max(0, now - ms));
    }
  }

  /** Draw, and begin the next second. */
  tick() {
    const all = this.#seconds.flat().sort((a, b) => a - b);
    this.#seconds.unshift([]);
    this.#seconds.length = Math.min(this.#seconds.length, KEPT_S);
    if (!all.length) return;
    const counts = BOUNDS_MS.map((bound, i) => all.filter((ms) => ms < bound && ms >= (BOUNDS_MS[i - 1] ?? 0)).length);
    const most = Math.max(...counts);
    counts.forEach((count, i) => {
      this.fills[i].style.transform = `translateY(${100 - (100 * count) / most}%)`;
    });
    this.say(all[Math.floor(all.length / 2)], all[Math.floor(all.length * 0.95)]);
  }

  say(half, most) {
    this.words.replaceChildren(
      Object.assign(document.createElement("b"), { textContent: span(half) }),
      ` typical · 95\u00a0% within ${span(most)}`,
    );
    this.bars.setAttribute("aria-label", `Half of the prices within ${span(half)}, 95 % within ${span(most)}`);
  }
}

const span = (ms) => (ms < 1000 ? `${Math.round(ms)}\u00a0ms` : `${(ms / 1000).toFixed(1)}\u00a0s`);
