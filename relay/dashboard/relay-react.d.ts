// The types of relay-react.js.

import type { ReactElement } from "react";
import type { Connection, Selection, State, Status, Ticker, Way } from "./relay.js";

export interface HookOptions extends Connection {
  way?: Way;
}

/**
 * Read prices: from each name as it was asked for to its ticker. The same object until
 * one of these prices changes, whatever the connection does meanwhile.
 */
export function usePrices(
  selection: Selection,
  options?: HookOptions,
): Readonly<Record<string, Ticker>>;

/** Read how the connection is that `usePrices` with the same options shares. */
export function useStatus(options?: HookOptions): Status;

/** One price that is always the newest, and flashes when it rises or falls. */
export function LivePrice(props: {
  symbol: string;
  options?: HookOptions;
  locale?: string;
  className?: string;
  placeholder?: string;
}): ReactElement;

/** Whether what is shown is live, and over which way it comes. */
export function StatusIndicator(props: {
  options?: HookOptions;
  className?: string;
  labels?: Partial<Record<State, string>>;
}): ReactElement;
