// The browser's client of the relay: newest prices and every change of them.
// One module, no dependency; its types stand in relay.d.ts. Nothing here draws.
//
// A page holds one connection for all its subscriptions together, and the tabs of a
// browser share one where it has Web Locks and BroadcastChannel. Every way out of the
// relay carries the same body and the same cursor, so that a change of way, a lost
// connection or a page that was hidden goes on from the cursor and misses nothing.

/** How long the client is patient, in milliseconds. A page may change it at the start. */
export const patience = {
  // A stream says something at once; behind a proxy that holds it back, nothing comes.
  firstWord: 5000,
  // The relay beats each 15 s: two beats missing, and a little.
  silent: 35000,
  // What a poll asks for, and what the network may add to it.
  pollWait: 20000,
  pollExtra: 10000,
  // Where streams do not get through: when to try one again, doubled each time.
  streamAgain: 60000,
  streamAgainMax: 600000,
  // Waits between attempts: random below a bound that doubles from the first.
  retry: 1000,
  retryMax: 15000,
  // Without an answer for so long it is not "reconnecting" any more.
  offline: 10000,
  // A selection that shrinks is followed later: what left a page often comes back.
  shrink: 1000,
  // Tabs tell their leader that they are there, and hear it, this often.
  tabs: 10000,
  // A ticket is good for a minute at most, and shown for so long.
  ticket: 30000,
};

// A stream that breaks sooner than this, so often in a row, does not get through.
const BRIEF_MS = 10000;
const BRIEF_MOST = 3;
// Answers of polls that are older than this in a cache are no live prices.
const AGE_MAX_S = 5;
// The relay takes so many instruments in one selection; beyond, the whole board.
const SELECTION_MAX = 500;
// For the other tabs to say what they want before a new leader connects.
const GATHER_MS = 50;
// A poll that brings nothing and was not held must not be repeated at once.
const SPIN_MS = 100;

const CANONICAL = /^[^\sa-z/,]+-[^\sa-z/,]+$/;

/** The relay has refused what was asked: asking again would not help. */
export class Refused extends Error {
  constructor({ code, sentence, hint }) {
    super(`${sentence} ${hint}`.trim());
    this.name = "Refused";
    this.code = code;
  }
}

// What the relay is shown by a page that may read: a ticket, got anew in good time.
class Pass {
  #issue;
  #ticket = null;
  #untilMs = 0;

  constructor(issue) {
    this.#issue = issue;
  }

  /** Return the ticket; those who ask at once share one. */
  async ticket() {
    if (!this.#ticket || Date.now() >= this.#untilMs) {
      this.#untilMs = Date.now() + patience.ticket;
      this.#ticket = Promise.resolve(this.#issue()).catch((error) => {
        this.spoil();
        // Whoever issues them may say that there will be none.
        if (error instanceof Refused) throw error;
        throw new Lost(`There is no ticket: ${error.message ?? error}.`);
      });
    }
    return this.#ticket;
  }

  /** It was not taken: the next one is a new one. */
  spoil() {
    this.#ticket = null;
  }
}

// Ask the relay, with what it wants to see.
async function get({ pass }, url, options) {
  const headers = pass ? { authorization: `Bearer ${await pass.ticket()}` } : {};
  const answer = await fetch(url, { ...options, headers });
  if (answer.status === 401) pass?.spoil();
  return answer;
}

class Lost extends Error {
  constructor(message, { unfit = false, afterMs = 0 } = {}) {
    super(message);
    // Unfit: this way out does not get through here; another may.
    this.unfit = unfit;
    this.afterMs = afterMs;
  }
}

/**
 * Subscribe to instruments: the newest state of each, and every change.
 * The selection is an array of names, `{ list: "majors" }`, or `"all"`.
 */
export function subscribe(selection, options = {}) {
  // Before anything is held: who asks for what cannot be leaves nothing behind.
  mustBeSelection(selection);
  if (options.way) mustBeWay(options.way);
  return new Subscription(deskOf(options), selection, options);
}

/** Return what this page holds of a selection now, without asking for it. */
export function peek(selection, options = {}) {
  const desk = desks.get(keyOf(options));
  return desk ? pick(desk, desk.resolved(selection)?.names ?? []) : new Map();
}

function mustBeSelection(selection) {
  if (selection === "all" || Array.isArray(selection)) return;
  if (typeof selection?.list === "string") return;
  throw new TypeError('A selection is an array of names, { list: "majors" } or "all".');
}

function mustBeWay(way) {
  if (["auto", "stream", "poll", "ws"].includes(way)) return;
  throw new TypeError(`There is no way ${JSON.stringify(way)}.`);
}

/** Which of two decimal texts is larger, digit by digit: -1, 0 or 1. */
export function compareDecimals(a, b) {
  const below = a.startsWith("-");
  if (below !== b.startsWith("-")) return isZero(a) && isZero(b) ? 0 : below ? -1 : 1;
  const [wholeA, partA = ""] = a.replace(/^[-+]/, "").split(".");
  const [wholeB, partB = ""] = b.replace(/^[-+]/, "").split(".");
  const width = Math.max(wholeA.length, wholeB.length);
  const length = Math.max(partA.length, partB.length);
  const x = wholeA.padStart(width, "0") + partA.padEnd(length, "0");
  const y = wholeB.padStart(width, "0") + partB.padEnd(length, "0");
  return x === y ? 0 : x < y === below ? 1 : -1;
}

const isZero = (text) => /^[-+]?[0.]*$/.test(text);

const styles = new Map();

// A locale's marks and numerals; the number itself never becomes a float.
function styleOf(locale) {
  if (!styles.has(locale)) {
    const whole = new Intl.NumberFormat(locale, { maximumFractionDigits: 0 });
    const parts = new Intl.NumberFormat(locale).formatToParts(-1.5);
    const mark = (type, otherwise) =>
      parts.find((part) => part.type === type)?.value ?? otherwise;
    styles.set(locale, {
      whole,
      point: mark("decimal", "."),
      minus: mark("minusSign", "-"),
      digits: [...Array(10).keys()].map((digit) => whole.format(digit)),
    });
  }
  return styles.get(locale);
}

/** Write a decimal text as the reader's locale does, with every digit it has. */
export function formatDecimal(text, locale = undefined) {
  const match = /^([-+]?)(\d+)(?:\.(\d*))?$/.exec(text ?? "");
  if (!match) return text ?? "";
  const [, sign, whole, part] = match;
  const { whole: grouped, point, minus, digits } = styleOf(locale);
  const tail = part ? point + part.replace(/\d/g, (digit) => digits[digit]) : "";
  return (sign === "-" ? minus : "") + grouped.format(BigInt(whole)) + tail;
}

// ---------------------------------------------------------------- subscriptions

class Subscription {
  #desk;
  #options;
  #asked;
  #names = [];
  #mine = new Set();
  #known = new Map();
  #closed = false;
  #leave;

  constructor(desk, selection, options) {
    this.#desk = desk;
    this.#options = options;
    this.prices = new Map();
    this.missing = new Set();
    desk.enter(this);
    if (options.way) desk.use(options.way);
    this.#leave = () => this.close();
    options.signal?.addEventListener("abort", this.#leave, { once: true });
    this.select(selection);
    if (options.signal?.aborted) this.close();
  }

  /** How the connection is; the same object until something about it changes. */
  get status() {
    return this.#desk.status;
  }

  /** When the relay was last heard, by this machine's clock in Unix milliseconds. */
  get heardMs() {
    return this.#desk.heardMs;
  }

  /** What is wanted of the board: names, or null for all of it. */
  get names() {
    return this.#names;
  }

  /** The newest ticker under any name that was asked for. */
  get(name) {
    return this.prices.get(this.#known.get(name) ?? name);
  }

  /** Want something else from now on; what is already held is there at once. */
  select(selection) {
    mustBeSelection(selection);
    if (this.#closed) return;
    this.#asked = selection;
    const found = this.#desk.resolved(selection);
    if (found) this.#turn(found);
    else this.#desk.resolve(selection).then((found) => {
      if (found && !this.#closed && this.#asked === selection) this.#turn(found);
      this.#desk.settle();
    });
  }

  #turn({ names, known }) {
    this.#known = known;
    this.#names = names === null ? null : [...new Set(names)];
    this.#mine = new Set(names);
    const before = this.prices;
    this.prices = pick(this.#desk, this.#names);
    this.missing = new Set(this.#names?.filter((name) => this.#desk.missing.has(name)));
    this.#desk.settle();
    const gone = [...before.keys()].filter((name) => !this.prices.has(name));
    const changed = [...this.prices.keys()].filter(
      (name) => this.prices.get(name) !== before.get(name),
    );
    if (changed.length || gone.length) this.#tell({ changed, gone, asOfMs: 0 });
  }

  /** Read over another way out: "auto", "stream", "poll" or "ws". */
  use(way) {
    if (!this.#closed) this.#desk.use(way);
  }

  /** Stop. The last one of a page ends its connection and leaves nothing behind. */
  close() {
    if (this.#closed) return;
    this.#closed = true;
    this.#options.signal?.removeEventListener("abort", this.#leave);
    this.#desk.leave(this);
  }

  /** Take in what the desk has heard; the desk's own. */
  take({ changed, gone, asOfMs, whole }) {
    const every = this.#names === null;
    const news = every ? changed : changed.filter((name) => this.#mine.has(name));
    const left = gone.filter((name) => this.prices.delete(name));
    for (const name of news) this.prices.set(name, this.#desk.held.get(name));
    const { missing } = this.#desk;
    this.missing = new Set(every ? [] : this.#names.filter((name) => missing.has(name)));
    if (news.length || left.length || whole)
      this.#tell({ changed: news, gone: left, asOfMs });
  }

  #tell(event) {
    guard(() => this.#options.onChange?.({ ...event, prices: this.prices }));
  }

  turned(status) {
    guard(() => this.#options.onStatus?.(status));
  }
}

// One listener that throws must not keep the others from hearing.
function guard(call) {
  try {
    call();
  } catch (error) {
    reportError(error);
  }
}

function pick(desk, names) {
  if (names === null) return new Map(desk.held);
  const found = names.filter((name) => desk.held.has(name));
  return new Map(found.map((name) => [name, desk.held.get(name)]));
}

// ------------------------------------------------------------------------ desks

const desks = new Map();

function keyOf({ url = "", fields = [], every = "", tabs = true, ticket }) {
  const base = new URL(url || "/", document.baseURI).href;
  return JSON.stringify([base, [...fields].sort(), every, tabs, Boolean(ticket)]);
}

function deskOf(options) {
  const key = keyOf(options);
  if (!desks.has(key)) desks.set(key, new Desk(key, options));
  return desks.get(key);
}

// What one page holds of one relay, and who on the page wants which part of it.
class Desk {
  constructor(key, { url = "", fields = [], every = "", tabs = true, way = "auto", ticket }) {
    this.key = key;
    const pass = ticket ? new Pass(ticket) : null;
    this.ask = { base: new URL(url || "/", document.baseURI).href, fields, every, pass };
    this.tabs = tabs;
    this.way = way;
    this.subscriptions = new Set();
    this.held = new Map();
    this.missing = new Set();
    this.cursor = "";
    this.heardMs = 0;
    this.line = null;
    this.aliases = new Map();
    this.lists = new Map();
    this.resolving = 0;
    this.ending = new AbortController();
    this.status = Object.freeze({
      state: "connecting", way: null, chosen: way, role: "alone", error: null,
    });
    document.addEventListener("visibilitychange", () => this.settle(), {
      signal: this.ending.signal,
    });
  }

  enter(subscription) {
    this.subscriptions.add(subscription);
    this.settle();
  }

  leave(subscription) {
    this.subscriptions.delete(subscription);
    this.settle();
  }

  use(way) {
    mustBeWay(way);
    if (way === this.way) return;
    this.way = way;
    this.say({ chosen: way });
    this.hang();
    this.settle();
  }

  // Many subscriptions come and go in one turn of the page: they are counted once,
  // when it is over, so that nothing is opened to be closed again.
  settle() {
    if (this.settling) return;
    this.settling = true;
    queueMicrotask(() => {
      this.settling = false;
      this.reckon();
    });
  }

  reckon() {
    if (this.ending.signal.aborted) return;
    if (!this.subscriptions.size) return this.end();
    if (document.hidden) {
      this.hang();
      return this.say({ state: "paused", way: null, role: "alone" });
    }
    // What is asked for by another name is known soon: one connection then, not two.
    if (!this.line && this.resolving) return;
    const names = this.union();
    if (names !== null && !names.length) return this.rest();
    if (!this.line) {
      if (this.status.state === "paused") this.say({ state: "reconnecting" });
      this.line = canShare(this) ? new Tab(this) : new Feed(this);
    }
    this.line.want(names);
  }

  union() {
    const names = new Set();
    for (const { names: some } of this.subscriptions) {
      if (some === null) return null;
      some.forEach((name) => names.add(name));
    }
    return names.size > SELECTION_MAX ? null : [...names].sort();
  }

  hang() {
    this.line?.close();
    this.line = null;
  }

  // Nothing is wanted, and so nothing is read: that is not live, and nothing is wrong.
  rest() {
    const read = this.line !== null || this.status.state === "paused";
    this.hang();
    if (read) this.say({ state: "connecting", way: null, role: "alone", error: null });
  }

  end() {
    this.hang();
    this.ending.abort();
    if (desks.get(this.key) === this) desks.delete(this.key);
    this.say({ state: "closed", way: null, role: "alone" });
  }

  say(change) {
    const same = Object.entries(change).every(([key, is]) => this.status[key] === is);
    if (same) return;
    this.status = Object.freeze({ ...this.status, ...change });
    for (const one of [...this.subscriptions]) one.turned(this.status);
  }

  /** Take one body in. `whole` says that what is not in it is not there. */
  hear(body, whole) {
    this.heardMs = Date.now();
    const changed = [];
    const gone = whole
      ? [...this.held.keys()].filter((name) => !(name in body.prices))
      : body.gone.filter((name) => this.held.has(name));
    gone.forEach((name) => this.held.delete(name));
    for (const [name, ticker] of Object.entries(body.prices)) {
      const before = this.held.get(name);
      // Two answers may cross on their way; the offset tells which is the newer one.
      if (before && !body.reset && before.offset >= ticker.offset) continue;
      this.held.set(name, ticker);
      changed.push(name);
    }
    this.missing = new Set(body.missing);
    this.cursor = body.cursor;
    const event = { changed, gone, whole, asOfMs: body.as_of_ms };
    for (const one of [...this.subscriptions]) one.take(event);
  }

  /** Forget what nobody asks for any more: it would grow old unseen. */
  keep(names) {
    if (names === null) return;
    const kept = new Set(names);
    for (const name of [...this.held.keys()]) if (!kept.has(name)) this.held.delete(name);
  }

  // ------------------------------------------------------------ names and lists

  /** Return a selection's canonical names if they are known without asking. */
  resolved(selection) {
    const known = new Map();
    if (selection === "all") return { names: null, known };
    if (!Array.isArray(selection)) {
      const names = this.lists.get(selection.list);
      return names && { names, known };
    }
    for (const name of selection) {
      const canonical = CANONICAL.test(name) ? name : this.aliases.get(name);
      if (!canonical) return undefined;
      known.set(name, canonical);
    }
    return { names: [...known.values()], known };
  }

  /** Ask the relay for what is not known; undefined when it refuses or all has ended. */
  async resolve(selection) {
    this.resolving += 1;
    try {
      return await this.askUntilKnown(selection);
    } finally {
      this.resolving -= 1;
    }
  }

  async askUntilKnown(selection) {
    for (let failures = 0; ; failures++) {
      try {
        await this.askNames(selection);
        return this.resolved(selection);
      } catch (error) {
        if (this.ending.signal.aborted) return undefined;
        if (error instanceof Refused) {
          this.say({ state: "refused", error: error.message });
          return undefined;
        }
        this.say({ state: "reconnecting", error: error.message });
        await pause(backoff(failures), this.ending.signal);
      }
    }
  }

  async askNames(selection) {
    if (!Array.isArray(selection)) {
      this.lists.set(selection.list, await this.members("list", selection.list));
      return;
    }
    const unknown = selection.filter((one) => !CANONICAL.test(one) && !this.aliases.has(one));
    await Promise.all(unknown.map(async (name) => {
      this.aliases.set(name, (await this.members("symbols", name))[0]);
    }));
  }

  // The relay answers under canonical names, whatever they were called in the question.
  async members(key, value) {
    const url = new URL("v1/prices", this.ask.base);
    url.search = new URLSearchParams({ [key]: value, fields: "price" });
    return within(patience.pollExtra, this.ending.signal, async (signal) => {
      const answer = await get(this.ask, url, { signal });
      if (!answer.ok) throw await lostBy(answer, this.ask);
      const { prices, missing } = await answer.json();
      return [...Object.keys(prices), ...missing].sort();
    });
  }
}

// ------------------------------------------------------------------------ feeds

// One connection to the relay: what to read, over which way, and when to try again.
class Feed {
  constructor(sink) {
    this.sink = sink;
    this.names = undefined;
    this.failures = 0;
    this.brief = 0;
    this.lostMs = 0;
    this.pollUntil = 0;
    this.streamAgain = patience.streamAgain;
    this.retryMs = patience.retry;
    this.live = true;
    this.ending = new AbortController();
    const { signal } = this.ending;
    addEventListener("online", () => this.attempt?.abort("changed"), { signal });
    addEventListener("offline", () => sink.say({ state: "offline", way: null }), { signal });
  }

  /** Read these instruments from now on, null for all. The first call connects. */
  want(names) {
    const before = this.names;
    if (before !== undefined && same(before, names)) {
      clearTimeout(this.later);
      this.later = 0;
      return;
    }
    if (before === undefined) {
      this.names = names;
      this.run();
    } else if (this.tell) {
      this.names = names;
      this.tell(before, names);
      this.sink.keep(names);
    } else if (contains(before, names)) {
      clearTimeout(this.later);
      this.later = setTimeout(() => this.turn(names), patience.shrink);
    } else {
      this.turn(names);
    }
  }

  turn(names) {
    clearTimeout(this.later);
    this.later = 0;
    this.names = names;
    this.sink.keep(names);
    this.attempt?.abort("changed");
  }

  close() {
    clearTimeout(this.later);
    this.ending.abort("closed");
    this.attempt?.abort("closed");
  }

  async run() {
    while (!this.ending.signal.aborted) {
      const attempt = (this.attempt = new AbortController());
      const way = this.choose();
      this.firstWord = false;
      this.begunMs = Date.now();
      let waitMs = 0;
      try {
        waitMs = await this[way](attempt.signal, way);
      } catch (error) {
        if (this.ending.signal.aborted) return;
        if (attempt.signal.reason !== "changed") waitMs = this.failed(way, attempt.signal.reason ?? error);
      } finally {
        clearTimeout(this.silence);
        clearTimeout(this.again);
        this.tell = null;
      }
      // The same controller: a change of selection ends the wait as well.
      if (!attempt.signal.aborted) await pause(waitMs, attempt.signal);
      else if (attempt.signal.reason !== "changed") {
        await pause(waitMs, (this.attempt = new AbortController()).signal);
      }
    }
  }

  choose() {
    const { way } = this.sink;
    if (way !== "auto") return way;
    return Date.now() < this.pollUntil ? "poll" : "stream";
  }

  /** Note a failure; returns how long to wait, Infinity until something changes. */
  failed(way, error) {
    if (error instanceof Refused) {
      if (error.code === "cursor_invalid" && this.sink.cursor) {
        this.sink.cursor = "";
        return 0;
      }
      this.sink.say({ state: "refused", way: null, error: error.message });
      return Infinity;
    }
    const now = Date.now();
    this.lostMs ||= now;
    // What worked for a while failed anew; what broke at once failed once more.
    if (this.firstWord && now - this.begunMs >= BRIEF_MS) this.failures = 0;
    this.failures += 1;
    if (way === "stream" && this.sink.way === "auto") this.doubt(error, now);
    const gone = !navigator.onLine || now - this.lostMs >= patience.offline;
    this.sink.say({
      state: gone ? "offline" : "reconnecting", way: null, error: String(error.message ?? error),
    });
    if (way === "stream" && now < this.pollUntil) return 0;
    return Math.max(error.afterMs ?? 0, backoff(this.failures - 1));
  }

  // Streams that are answered with something else, held back or cut soon: poll a while.
  doubt(error, now) {
    const brief = this.firstWord && now - this.begunMs < BRIEF_MS;
    this.brief = brief ? this.brief + 1 : 0;
    if (!error.unfit && this.brief < BRIEF_MOST) return;
    this.brief = 0;
    this.pollUntil = now + this.streamAgain;
    this.streamAgain = Math.min(2 * this.streamAgain, patience.streamAgainMax);
  }

  url(path, more) {
    const url = new URL(path, this.sink.ask.base);
    const { fields } = this.sink.ask;
    if (this.names) url.searchParams.set("symbols", this.names.join(","));
    if (fields.length) url.searchParams.set("fields", fields.join(","));
    for (const [key, value] of Object.entries(more)) {
      if (value) url.searchParams.set(key, value);
    }
    return url;
  }

  /** End the attempt when nothing comes for so long. */
  stir(ms, error) {
    clearTimeout(this.silence);
    const { attempt } = this;
    this.silence = setTimeout(() => attempt.abort(error ?? new Lost("The relay is silent.")), ms);
  }

  /** What was opened has answered: it works. */
  heard(way) {
    if (!this.firstWord) {
      this.firstWord = true;
      this.lostMs = 0;
      if (way === "stream") this.streamAgain = patience.streamAgain;
      // Nothing may have changed since the cursor, and then nothing more comes yet.
      if (this.sink.cursor) this.sink.say({ state: this.live ? "live" : "stale", way, error: null });
    }
    this.sink.heardMs = Date.now();
  }

  take(way, body, sent, ageS = 0) {
    this.live = body.live && ageS <= AGE_MAX_S;
    // A cursor of another selection is answered in full, and so is none.
    const foreign = sent !== null && selectionOf(body.cursor) !== selectionOf(sent);
    this.sink.hear(body, Boolean(body.reset) || foreign);
    this.sink.say({ state: this.live ? "live" : "stale", way, error: null });
  }

  // Fetch and not EventSource: it shows the heartbeats and why a stream was refused.
  async stream(signal, way) {
    let sent = this.sink.cursor;
    // A ticket that is long on its way is no stream held back.
    await this.sink.ask.pass?.ticket();
    this.stir(patience.firstWord, new Lost("The stream is held back.", { unfit: true }));
    const url = this.url("v1/stream", { cursor: sent, every: this.sink.ask.every });
    const answer = await get(this.sink.ask, url, { signal, cache: "no-store" });
    if (!answer.ok) throw await lostBy(answer, { ...this.sink.ask, stream: true });
    if (!answer.headers.get("content-type")?.startsWith("text/event-stream")) {
      throw new Lost("What came is no stream.", { unfit: true });
    }
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    const events = new Events();
    for (;;) {
      const { done, value } = await reader.read();
      signal.throwIfAborted();
      if (done) break;
      this.stir(patience.silent);
      this.heard(way);
      for (const data of events.feed(value)) {
        const body = JSON.parse(data);
        this.take(way, body, sent);
        sent = body.cursor;
      }
      this.retryMs = events.retryMs ?? this.retryMs;
    }
    // The relay ends each stream after some minutes and says when to come back.
    if (Date.now() - this.begunMs < BRIEF_MS) throw new Lost("The stream ended soon.");
    return this.retryMs * (0.75 + Math.random() / 2);
  }

  async poll(signal, way) {
    if (this.sink.way === "auto") {
      const { attempt } = this;
      this.again = setTimeout(() => attempt.abort("changed"), this.pollUntil - Date.now());
    }
    for (;;) {
      const sent = this.sink.cursor;
      const begun = Date.now();
      this.stir(patience.pollWait + patience.pollExtra);
      const more = { cursor: sent, wait: sent && `${patience.pollWait}ms` };
      const answer = await get(this.sink.ask, this.url("v1/poll", more), { signal });
      if (!answer.ok) throw await lostBy(answer, this.sink.ask);
      const body = await answer.json();
      signal.throwIfAborted();
      this.heard(way);
      this.take(way, body, sent, Number(answer.headers.get("age") ?? 0));
      const idle = !Object.keys(body.prices).length && !body.gone.length;
      if (idle && Date.now() - begun < SPIN_MS) await pause(backoff(0), signal);
      signal.throwIfAborted();
    }
  }

  async ws(signal, way) {
    const { base, pass } = this.sink.ask;
    const url = new URL("v1/ws", base);
    url.protocol = url.protocol.replace("http", "ws");
    // A WebSocket sends no header: it alone has the ticket in its address.
    if (pass) url.searchParams.set("ticket", await pass.ticket());
    signal.throwIfAborted();
    return new Promise((done, fail) => {
      const socket = new WebSocket(url);
      let sent = this.sink.cursor;
      this.stir(patience.firstWord, new Lost("The WebSocket is held back."));
      const end = (error) => {
        socket.onmessage = socket.onclose = null;
        socket.close();
        fail(error);
      };
      signal.addEventListener("abort", () => end(signal.reason), { once: true });
      socket.onopen = () => {
        const { fields } = this.sink.ask;
        const message = { type: "subscribe", ...named(this.names) };
        if (fields.length) message.fields = fields;
        if (sent) message.cursor = sent;
        socket.send(JSON.stringify(message));
      };
      // Before it is open there is nothing to change: it will ask for what is wanted.
      this.tell = (before, after) => {
        if (socket.readyState === WebSocket.OPEN) resubscribe(socket, before, after);
      };
      const hear = (body) => {
        this.stir(patience.silent);
        if (body.type === "error") throw new Refused(body.error);
        this.heard(way);
        if (body.type !== "update") return;
        this.take(way, body, sent);
        // From here on changes of the selection come as changes, never as a whole.
        sent = null;
      };
      socket.onmessage = ({ data }) => {
        try {
          hear(JSON.parse(data));
        } catch (error) {
          end(error);
        }
      };
      socket.onclose = ({ code, reason }) => {
        // Why a handshake failed is not told; it may have been the ticket.
        if (!this.firstWord) pass?.spoil();
        if (code === 1012) return done(this.retryMs * (0.75 + Math.random() / 2));
        fail(new Lost(reason || `The WebSocket closed (${code}).`));
      };
    });
  }
}

const named = (names) => (names ? { symbols: names } : {});

// Everything and back go as a whole; between two sets of names only what differs.
function resubscribe(socket, before, after) {
  const say = (type, names) => socket.send(JSON.stringify({ type, ...named(names) }));
  if (after === null) return say("subscribe", null);
  if (before === null) say("unsubscribe", null);
  const lacked = before === null ? after : after.filter((name) => !before.includes(name));
  const left = before === null ? [] : before.filter((name) => !after.includes(name));
  if (lacked.length) say("subscribe", lacked);
  if (left.length) say("unsubscribe", left);
}

// The middle of a cursor stands for the instruments it was given for.
const selectionOf = (cursor) => cursor?.split(".")[1] ?? "";

const same = (a, b) => a === b || (a && b && a.length === b.length && a.every((one, i) => one === b[i]));

function contains(names, some) {
  return names === null || (some !== null && some.every((name) => names.includes(name)));
}

async function lostBy(answer, { stream = false, pass = null }) {
  const told = await answer.json().catch(() => null);
  const afterMs = 1000 * (Number(answer.headers.get("retry-after")) || 0);
  const locked = [401, 403].includes(answer.status);
  // A ticket that was not taken has a successor; without one there is no use in asking.
  const final = answer.status === 400 || (locked && (!pass || answer.status === 403));
  if (final && told?.error) return new Refused(told.error);
  const unfit = stream && answer.status < 500 && answer.status !== 429 && !(locked && told);
  return new Lost(told?.error?.sentence ?? `The relay answered ${answer.status}.`, { unfit, afterMs });
}

// Full jitter: clients that were cut off together do not come back together.
function backoff(failures) {
  const bound = Math.min(patience.retryMax, patience.retry * 2 ** failures);
  return bound / 4 + Math.random() * bound * 0.75;
}

// Ask with a signal of its own, which ends it when nothing came for so long.
async function within(ms, ending, ask) {
  const attempt = new AbortController();
  const end = () => attempt.abort(ending.reason);
  const timer = setTimeout(() => attempt.abort(new Lost("The relay is silent.")), ms);
  ending.addEventListener("abort", end, { once: true });
  try {
    return await ask(attempt.signal);
  } finally {
    clearTimeout(timer);
    ending.removeEventListener("abort", end);
  }
}

function pause(ms, signal) {
  return new Promise((done) => {
    if (signal.aborted) return done();
    const timer = ms === Infinity ? 0 : setTimeout(over, ms);
    signal.addEventListener("abort", over, { once: true });
    function over() {
      clearTimeout(timer);
      signal.removeEventListener("abort", over);
      done();
    }
  });
}

// Cuts a stream's text into events; comments count as having been heard, no more.
class Events {
  #rest = "";
  retryMs;

  *feed(text) {
    const blocks = (this.#rest + text.replaceAll("\r\n", "\n")).split("\n\n");
    this.#rest = blocks.pop();
    for (const block of blocks) {
      const data = [];
      for (const line of block.split("\n")) {
        if (line.startsWith("data:")) data.push(line.slice(5).trimStart());
        else if (line.startsWith("retry:")) this.retryMs = Number(line.slice(6));
      }
      if (data.length) yield data.join("\n");
    }
  }
}

// ------------------------------------------------------------------------- tabs

function canShare(desk) {
  return desk.tabs && "BroadcastChannel" in globalThis && Boolean(navigator.locks);
}

// One of a browser's tabs that read the same relay the same way. The one that holds
// the lock leads: it reads for all of them. A tab that is hidden or closed lets go of
// the lock, and the next one goes on from the cursor.
class Tab {
  constructor(desk) {
    this.desk = desk;
    this.name = `relay ${desk.key} ${desk.way}`;
    this.id = crypto.randomUUID();
    this.ending = new AbortController();
    this.others = new Map();
    this.feed = null;
    this.channel = new BroadcastChannel(this.name);
    this.channel.onmessage = ({ data }) => this.on(data);
    this.beat = setInterval(() => this.tick(), patience.tabs);
    this.heardMs = Date.now();
    this.enter({ signal: this.ending.signal });
  }

  // What a feed needs of its sink; what is heard goes to the other tabs as well.
  get ask() { return this.desk.ask; }
  get way() { return this.desk.way; }
  get cursor() { return this.desk.cursor; }
  set cursor(text) { this.desk.cursor = text; }
  set heardMs(ms) { this.leaderMs = ms; if (this.feed) this.desk.heardMs = ms; }

  say(change) {
    this.desk.say({ ...change, role: "leads" });
    this.tellStatus();
  }

  hear(body, whole) {
    this.desk.hear(body, whole);
    if (this.others.size) this.post({ kind: "body", body, whole });
  }

  keep(names) {
    this.desk.keep(names);
    if (this.others.size) this.post({ kind: "keep", names });
  }

  tellStatus() {
    if (!this.others.size) return;
    const { state, way, error } = this.desk.status;
    this.post({ kind: "status", status: { state, way, error } });
  }

  want(names) {
    this.names = names;
    if (this.feed) this.feed.want(this.union());
    else if (!this.leading) this.post({ kind: "want", names });
  }

  close() {
    clearInterval(this.beat);
    if (!this.leading) this.post({ kind: "leave" });
    this.ending.abort();
    this.feed?.close();
    this.release?.();
    this.channel.onmessage = null;
    this.channel.close();
  }

  post(message) {
    if (!this.ending.signal.aborted) this.channel.postMessage({ ...message, from: this.id });
  }

  enter(how) {
    navigator.locks.request(this.name, how, () => this.lead()).catch(() => {
      // Another tab took the lock away, since it heard nothing of this one.
      if (!this.ending.signal.aborted) this.follow();
    });
  }

  follow() {
    this.feed?.close();
    this.feed = this.release = null;
    this.leading = false;
    this.others.clear();
    this.leaderMs = Date.now();
    this.enter({ signal: this.ending.signal });
    this.post({ kind: "want", names: this.names });
  }

  async lead() {
    if (this.ending.signal.aborted) return;
    this.leading = true;
    const ended = new Promise((release) => (this.release = release));
    this.post({ kind: "lead" });
    const { pending } = await navigator.locks.query();
    if (pending.some(({ name }) => name === this.name)) {
      await pause(GATHER_MS, this.ending.signal);
    }
    if (this.ending.signal.aborted) return;
    this.feed = new Feed(this);
    this.feed.want(this.union());
    // From here on the others get what changes, so they must hold what this one holds.
    if (this.others.size && this.desk.cursor) {
      this.post({ kind: "body", whole: true, body: this.everything() });
    }
    await ended;
  }

  union() {
    const names = new Set(this.names);
    for (const other of [this.names, ...[...this.others.values()].map((one) => one.names)]) {
      if (other === null) return null;
      other.forEach((name) => names.add(name));
    }
    return names.size > SELECTION_MAX ? null : [...names].sort();
  }

  on({ kind, from, names, body, whole, status, to }) {
    if (kind === "want" && this.leading) this.admit(from, names);
    else if (kind === "leave" && this.others.delete(from)) this.feed?.want(this.union());
    if (this.leading) return;
    if (kind === "lead") this.post({ kind: "want", names: this.names });
    if (["lead", "body", "status", "keep"].includes(kind)) this.leaderMs = Date.now();
    if (kind === "status" || kind === "body") this.desk.heardMs = Date.now();
    if (kind === "body" && (!to || to === this.id)) this.desk.hear(body, whole);
    else if (kind === "keep") this.desk.keep(names);
    else if (kind === "status") this.desk.say({ ...status, role: "follows" });
  }

  admit(id, names) {
    const known = this.others.has(id) && same(this.others.get(id).names, names);
    this.others.set(id, { names, seenMs: Date.now() });
    if (known || !this.feed) return;
    const before = this.feed.names;
    this.feed.want(this.union());
    this.tellStatus();
    // Where nothing new has to be asked for, the newcomer gets what is held.
    if (same(before, this.feed.names) && this.desk.cursor) {
      this.post({ kind: "body", to: id, whole: true, body: this.everything() });
    }
  }

  everything() {
    const { desk } = this;
    return {
      cursor: desk.cursor, as_of_ms: 0, live: this.feed.live,
      prices: Object.fromEntries(desk.held), missing: [...desk.missing], gone: [],
    };
  }

  tick() {
    const now = Date.now();
    if (!this.leading) {
      this.post({ kind: "want", names: this.names });
      if (now - this.leaderMs > 3 * patience.tabs) this.enter({ steal: true });
      return;
    }
    this.tellStatus();
    for (const [id, { seenMs }] of this.others) {
      if (now - seenMs > 3 * patience.tabs) this.others.delete(id);
    }
    this.feed?.want(this.union());
  }
}
