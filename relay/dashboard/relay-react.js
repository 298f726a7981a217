// The relay for React 18 and later, on relay.js. Plain elements, no JSX, no build.
//
// What a component shows comes from an external store whose snapshots change only when
// the prices it shows do: a connection that comes and goes renders nothing but the
// status indicator.

import { createElement, useEffect, useMemo, useRef, useSyncExternalStore } from "react";
import { compareDecimals, formatDecimal, peek, subscribe } from "./relay.js";

const NOTHING = Object.freeze({});
const UNKNOWN = Object.freeze({ state: "connecting", way: null, chosen: "auto", role: "alone", error: null });

// A new array with the same names is the same selection: components write them inline.
const keyOf = (selection, { url, fields, every, tabs, way }) =>
  JSON.stringify([selection, url, fields, every, tabs, way]);

/**
 * Read prices: an object from each name as it was asked for to its ticker. The same
 * object until one of these prices changes, whatever the connection does meanwhile.
 */
export function usePrices(selection, options = NOTHING) {
  const key = keyOf(selection, options);
  // Making a store opens nothing, so that a render may be thrown away.
  const store = useMemo(() => priceStore(selection, options), [key]);
  return useSyncExternalStore(store.subscribe, store.snapshot, store.serverSnapshot);
}

function priceStore(selection, options) {
  const named = Array.isArray(selection);
  let shown = named ? asAsked(selection, peek(selection, options)) : NOTHING;
  return {
    subscribe(changed) {
      const subscription = subscribe(selection, {
        ...options,
        onChange() {
          if (refresh(subscription)) changed();
        },
      });
      if (refresh(subscription)) changed();
      return () => subscription.close();
    },
    snapshot: () => shown,
    serverSnapshot: () => NOTHING,
  };

  // What is told while `subscribe` is still running is read right after it.
  function refresh(subscription) {
    if (!subscription) return false;
    const next = named
      ? asAsked(selection, { get: (name) => subscription.get(name) })
      : Object.fromEntries(subscription.prices);
    if (isSame(shown, next)) return false;
    shown = Object.freeze(next);
    return true;
  }
}

function asAsked(names, prices) {
  const found = names.map((name) => [name, prices.get(name)]).filter(([, ticker]) => ticker);
  return Object.freeze(Object.fromEntries(found));
}

function isSame(a, b) {
  const names = Object.keys(b);
  return names.length === Object.keys(a).length && names.every((name) => a[name] === b[name]);
}

/** Read how the connection is that `usePrices` with the same options shares. */
export function useStatus(options = NOTHING) {
  const key = keyOf([], options);
  const store = useMemo(() => statusStore(options), [key]);
  return useSyncExternalStore(store.subscribe, store.snapshot, store.serverSnapshot);
}

function statusStore(options) {
  let status = UNKNOWN;
  return {
    subscribe(changed) {
      // It wants no price, and so opens nothing by itself.
      const subscription = subscribe([], {
        ...options,
        onStatus(next) {
          status = next;
          changed();
        },
      });
      status = subscription.status;
      changed();
      return () => subscription.close();
    },
    snapshot: () => status,
    serverSnapshot: () => UNKNOWN,
  };
}

const COLOURS = { up: "var(--relay-up, #1a9d63)", down: "var(--relay-down, #d33f4a)" };
const SIGNS = { up: "▲", down: "▼" };
const FLASH_MS = 900;

/** One price that is always the newest, and flashes when it rises or falls. */
export function LivePrice({ symbol, options = NOTHING, locale, className, placeholder = "—" }) {
  const key = keyOf([symbol], options);
  const store = useMemo(() => moveStore(priceStore([symbol], options), symbol), [key]);
  const { ticker, direction, turn } = useSyncExternalStore(
    store.subscribe, store.snapshot, store.serverSnapshot,
  );
  const element = useRef(null);
  useEffect(() => {
    if (turn) flash(element.current, direction);
  }, [store, turn, direction]);
  return createElement(
    "span",
    {
      ref: element,
      className,
      title: symbol,
      "data-direction": direction || undefined,
      "data-stale": ticker?.stale ? "" : undefined,
      style: { fontVariantNumeric: "tabular-nums", borderRadius: "0.25em" },
    },
    createElement(
      "span",
      { "aria-hidden": true, style: { display: "inline-block", width: "1.2em", fontSize: "0.7em", color: COLOURS[direction] } },
      SIGNS[direction] ?? "",
    ),
    ticker?.price ? formatDecimal(ticker.price, locale) : placeholder,
  );
}

const STILL = Object.freeze({ ticker: undefined, direction: "", turn: 0 });

// Where a price went is a matter of the store: a render that is repeated must not
// compare a price with itself.
function moveStore(prices, symbol) {
  let move = Object.freeze({ ...STILL, ticker: prices.snapshot()[symbol] });
  return {
    subscribe: (changed) => prices.subscribe(() => {
      const ticker = prices.snapshot()[symbol];
      const { ticker: before, direction, turn } = move;
      const went = ticker?.price && before?.price ? compareDecimals(ticker.price, before.price) : 0;
      if (ticker?.price === before?.price && ticker?.stale === before?.stale) return;
      move = Object.freeze({
        ticker,
        direction: went > 0 ? "up" : went < 0 ? "down" : direction,
        turn: went ? turn + 1 : turn,
      });
      changed();
    }),
    snapshot: () => move,
    serverSnapshot: () => STILL,
  };
}

function flash(element, direction) {
  if (!element?.animate || matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  const colour = `color-mix(in srgb, ${COLOURS[direction]} 30%, transparent)`;
  element.animate([{ backgroundColor: colour }, { backgroundColor: "transparent" }], {
    duration: FLASH_MS, easing: "ease-out",
  });
}

const STATE_COLOURS = { live: COLOURS.up, offline: COLOURS.down, refused: COLOURS.down };
const WAYS = { stream: "SSE", poll: "long-poll", ws: "WebSocket" };

/** Whether what is shown is live, and over which way it comes. */
export function StatusIndicator({ options = NOTHING, className, labels = NOTHING }) {
  const { state, way } = useStatus(options);
  const colour = STATE_COLOURS[state] ?? "var(--relay-wait, #b07a10)";
  return createElement(
    "span",
    { className, role: "status", "data-state": state, title: way ? WAYS[way] : undefined },
    createElement("span", {
      "aria-hidden": true,
      style: { display: "inline-block", width: "0.6em", height: "0.6em", marginInlineEnd: "0.4em", borderRadius: "50%", background: colour },
    }),
    labels[state] ?? state,
  );
}
