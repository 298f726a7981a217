// The board as it changes: Server-Sent Events, or polls where they do not get through.
// Both ways share one cursor, so changing from one to the other misses nothing.

// A stream says something at once; behind a proxy that holds it back, nothing comes.
const FIRST_WORD_MS = 6000;
// The stream beats every 15 s, which a page cannot hear; the relay's marks tell more.
const QUIET_MS = 45000;
const TRY_STREAM_AGAIN_MS = 60000;
const RETRY_MIN_MS = 1000;
const RETRY_MAX_MS = 15000;

export class Feed {
  constructor({ take, state, pace = "500ms" }) {
    this.take = take;
    this.state = state;
    this.pace = pace;
    this.cursor = "";
    this.failures = 0;
    this.polling = null;
    this.stream = null;
  }

  start() {
    addEventListener("offline", () => this.state("offline"));
    addEventListener("online", () => this.listen());
    // A phone that slept finds a stream that looks open and is dead.
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden && Date.now() - this.heard > QUIET_MS) this.listen();
    });
    this.listen();
  }

  url(path, more = {}) {
    const query = new URLSearchParams(more);
    if (this.cursor) query.set("cursor", this.cursor);
    return query.size ? `${path}?${query}` : path;
  }

  listen() {
    this.stop();
    const stream = new EventSource(this.url("/v1/stream", { every: this.pace }));
    this.stream = stream;
    this.heard = Date.now();
    this.patience = setTimeout(() => this.poll(), FIRST_WORD_MS);
    const hear = (event) => {
      if (stream !== this.stream || !event.data) return;
      clearTimeout(this.patience);
      this.hear(JSON.parse(event.data));
    };
    stream.onmessage = hear;
    stream.addEventListener("prices", hear);
    stream.onerror = () => this.lost(stream);
  }

  lost(stream) {
    if (stream !== this.stream) return;
    this.state(navigator.onLine ? "reconnecting" : "offline");
    // The browser comes back by itself unless the answer was no stream at all.
    if (stream.readyState === EventSource.CLOSED) this.poll();
  }

  hear(body) {
    if (typeof body.cursor !== "string" || !body.prices) return;
    this.heard = Date.now();
    this.failures = 0;
    this.cursor = body.cursor;
    this.take(body);
    this.state(body.live ? "live" : "stale");
  }

  stop() {
    clearTimeout(this.patience);
    clearTimeout(this.later);
    this.stream?.close();
    this.stream = null;
    this.polling?.abort();
    this.polling = null;
  }

  async poll() {
    this.stop();
    const polling = new AbortController();
    this.polling = polling;
    this.later = setTimeout(() => this.listen(), TRY_STREAM_AGAIN_MS);
    while (!polling.signal.aborted) {
      try {
        const answer = await fetch(this.url("/v1/poll"), { signal: polling.signal });
        if (!answer.ok) throw new Error(String(answer.status));
        this.hear(await answer.json());
      } catch {
        if (polling.signal.aborted) return;
        this.state(navigator.onLine ? "reconnecting" : "offline");
        await this.pause(polling.signal);
      }
    }
  }

  // Twice as long after each failure, and never in step with other pages.
  pause(signal) {
    const bound = Math.min(RETRY_MAX_MS, RETRY_MIN_MS * 2 ** this.failures++);
    return new Promise((done) => {
      const timer = setTimeout(done, bound * (0.5 + Math.random() / 2));
      signal.addEventListener("abort", () => (clearTimeout(timer), done()));
    });
  }
}
