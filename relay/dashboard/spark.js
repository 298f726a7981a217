// The last minutes of what is visible: asked for once, then kept going by what comes.

import { ask } from "./door.js";

const KEPT_MS = 600000;
const STEP_MS = 10000;
const SPAN_MIN_MS = 120000;
// Two points are a line that says nothing.
const POINTS_MIN = 3;
// Beside the stream a browser opens five more connections to one place over HTTP/1.1.
const ASKED_AT_ONCE = 3;
// A ring that could not be read is asked for again after so long.
const AGAIN_MS = 30000;
// Several screens full; what was drawn before is asked for anew when it comes back.
const KEPT_MOST = 200;

export class Sparks {
  #points = new Map();
  #asked = new Map();
  #queue = [];
  #busy = 0;

  /** Return the points of an instrument, and ask for those before our time once. */
  of(name) {
    const again = this.#asked.get(name) ?? 0;
    // Put last: the first is the one that was not drawn for longest.
    this.#asked.delete(name);
    this.#asked.set(name, again < Date.now() ? Infinity : again);
    if (again < Date.now()) {
      this.#queue.push(name);
      this.#next();
    }
    if (this.#asked.size > KEPT_MOST) this.forget(this.#asked.keys().next().value);
    return this.#points.get(name) ?? [];
  }

  /** Note a price of what is or was drawn; one point for each step is kept, the last one moves. */
  note(name, ms, price) {
    if (!ms || !price || !this.#asked.has(name)) return;
    const points = this.#points.get(name) ?? [];
    const last = points.at(-1);
    if (last && Math.floor(last[0] / STEP_MS) >= Math.floor(ms / STEP_MS)) last[1] = price;
    else points.push([ms, price]);
    while (points.length && points[0][0] < ms - KEPT_MS) points.shift();
    this.#points.set(name, points);
  }

  forget(name) {
    this.#points.delete(name);
    this.#asked.delete(name);
  }

  /** What scrolled by quickly is not asked for any more. */
  only(visible) {
    this.#queue = this.#queue.filter((name) => {
      if (visible(name)) return true;
      this.#asked.delete(name);
      return false;
    });
  }

  async #next() {
    if (this.#busy >= ASKED_AT_ONCE || !this.#queue.length) return;
    this.#busy += 1;
    const name = this.#queue.shift();
    try {
      const answer = await ask(`/v1/prices/${encodeURIComponent(name)}/recent`);
      if (!answer.ok) throw new Error(String(answer.status));
      const { points } = await answer.json();
      if (!this.#asked.has(name)) return;
      // What has come meanwhile is newer than the answer.
      const held = this.#points.get(name) ?? [];
      const since = held[0]?.[0] ?? Infinity;
      const older = points.filter(([ms]) => ms < since - STEP_MS);
      this.#points.set(name, [...older, ...held]);
    } catch {
      this.#asked.set(name, Date.now() + AGAIN_MS);
    } finally {
      this.#busy -= 1;
      this.#next();
    }
  }
}

/** Return the points of a polyline in a square of 100: a drawing, not for reading. */
export function shape(points) {
  if (points.length < POINTS_MIN) return "";
  const values = points.map(([, price]) => Number(price));
  const low = Math.min(...values);
  const span = Math.max(...values) - low;
  // What has not moved stands in the middle, neither high nor low.
  const height = (value) => (span ? 95 - (90 * (value - low)) / span : 50);
  // What is known of less than two minutes does not fill the whole width.
  const until = points.at(-1)[0];
  const width = Math.max(until - points[0][0], SPAN_MIN_MS);
  const from = until - width;
  return points
    .map(([ms], i) => `${((100 * (ms - from)) / width).toFixed(1)},${height(values[i]).toFixed(1)}`)
    .join(" ");
}
