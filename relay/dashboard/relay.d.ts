// The types of relay.js.

/** What is published for one instrument; prices are the decimal text as it was sent. */
export interface Ticker {
  readonly price?: string;
  readonly bid?: string;
  readonly ask?: string;
  readonly change_24h_pct?: string;
  readonly high_24h?: string;
  readonly low_24h?: string;
  readonly volume_24h?: string;
  readonly volume_24h_quote?: string;
  readonly source?: string;
  readonly via?: string;
  readonly event_ms?: number;
  readonly received_ms?: number;
  readonly stale?: boolean;
  readonly offset: number;
}

/** Instruments by any of their names, a named list, or the whole board. */
export type Selection = readonly string[] | { readonly list: string } | "all";

/** How to read: a stream with polls where it does not get through, or one of three. */
export type Way = "auto" | "stream" | "poll" | "ws";

export type State =
  /** Nothing has been heard yet, or nothing is selected. */
  | "connecting"
  /** Everything is as new as the relay has it. */
  | "live"
  /** The relay answers, and hears nothing new itself. */
  | "stale"
  | "reconnecting"
  /** There was no answer for a while, or there is no network. */
  | "offline"
  /** The page is hidden; it catches up when it is shown. */
  | "paused"
  /** The relay has refused what was asked; `error` says why. */
  | "refused"
  | "closed";

/** How the connection is. A new object whenever something about it has changed. */
export interface Status {
  readonly state: State;
  /** The way in use, null while there is none. */
  readonly way: "stream" | "poll" | "ws" | null;
  readonly chosen: Way;
  /** Whether this tab reads for others, or another one for it. */
  readonly role: "alone" | "leads" | "follows";
  readonly error: string | null;
}

export interface Change {
  /** Names whose ticker is new. */
  readonly changed: readonly string[];
  /** Names that are not on the board any more, or not selected. */
  readonly gone: readonly string[];
  /** When it was published, by the relay's clock; 0 for what was held already. */
  readonly asOfMs: number;
  readonly prices: ReadonlyMap<string, Ticker>;
}

/** Subscriptions with the same relay, fields, pace and tabs share one connection. */
export interface Connection {
  /** The relay's address; left out, where the page came from. */
  url?: string;
  /** Only these fields of each ticker. */
  fields?: readonly string[];
  /** A slower pace of the stream, such as "500ms". */
  every?: string;
  /** False: do not share the connection with other tabs. */
  tabs?: boolean;
  /**
   * For a relay that wants a key: returns a ticket of `POST /v1/ticket`, which your own
   * server gets with the key. It is called anew for whoever comes back later. With a
   * `Refused` it says that there will be none; after any other error it is called again.
   */
  ticket?: () => string | Promise<string>;
}

export interface Options extends Connection {
  /** How to read; it holds for all subscriptions that share the connection. */
  way?: Way;
  onChange?: (change: Change) => void;
  onStatus?: (status: Status) => void;
  /** Closes the subscription when it is aborted. */
  signal?: AbortSignal;
}

export interface Subscription {
  /** The newest of each selected instrument, under its canonical name. */
  readonly prices: ReadonlyMap<string, Ticker>;
  /** Selected instruments that have no value yet. */
  readonly missing: ReadonlySet<string>;
  /** The selected instruments, null for the whole board. */
  readonly names: readonly string[] | null;
  readonly status: Status;
  /** When the relay was last heard, by this machine's clock in Unix milliseconds. */
  readonly heardMs: number;
  /** The newest ticker under any name that was asked for. */
  get(name: string): Ticker | undefined;
  select(selection: Selection): void;
  use(way: Way): void;
  close(): void;
}

/** Subscribe to instruments: the newest state of each, and every change. */
export function subscribe(selection: Selection, options?: Options): Subscription;

/** Return what this page holds of a selection now, without asking for it. */
export function peek(selection: Selection, options?: Connection): ReadonlyMap<string, Ticker>;

/** Which of two decimal texts is larger, digit by digit. */
export function compareDecimals(a: string, b: string): -1 | 0 | 1;

/** Write a decimal text as the reader's locale does, with every digit it has. */
export function formatDecimal(text: string | undefined, locale?: string): string;

/** How long the client is patient, in milliseconds; change it before subscribing. */
export const patience: {
  firstWord: number;
  silent: number;
  pollWait: number;
  pollExtra: number;
  streamAgain: number;
  streamAgainMax: number;
  retry: number;
  retryMax: number;
  offline: number;
  shrink: number;
  tabs: number;
  ticket: number;
};

/** The relay has refused what was asked. */
export class Refused extends Error {
  constructor(error: { code: string; sentence: string; hint: string });
  readonly code: string;
}
