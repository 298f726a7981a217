// The key of a relay that wants one: kept in this tab, shown where the page asks.
// What is behind the door stands in page.js.

import { Refused } from "./relay.js";

const NAME = "relay-key";
// As a header takes it; nothing else is a key.
const WRITTEN = /^[!-~]+$/;

let key = remembered();

/** Tell whether there is a key to show. */
export const holds = () => key !== "";

/** Keep a key until it is forgotten or the tab is closed. */
export function keep(text) {
  key = text;
  try {
    sessionStorage.setItem(NAME, key);
  } catch {
    // It holds until the page is left.
  }
}

export function forget() {
  key = "";
  try {
    sessionStorage.removeItem(NAME);
  } catch {
    // Then nothing was kept.
  }
}

function remembered() {
  try {
    return sessionStorage.getItem(NAME) ?? "";
  } catch {
    return "";
  }
}

const shown = (text) => (text ? { authorization: `Bearer ${text}` } : {});

/** Ask the relay, and show the key where there is one. */
export const ask = (path, options = {}) => fetch(path, { ...options, headers: shown(key) });

/** Return a ticket for a key: it opens streams, and nobody can keep it for long. */
export async function ticketFor(text) {
  if (!WRITTEN.test(text)) throw refused({ sentence: "This is no key." });
  const answer = await fetch("/v1/ticket", { method: "POST", headers: shown(text) });
  const told = await answer.json().catch(() => null);
  if (answer.ok && told?.ticket) return told.ticket;
  if ([401, 403].includes(answer.status) && told?.error) throw refused(told.error);
  throw new Error(told?.error?.sentence ?? `The relay answered ${answer.status}.`);
}

export const ticket = () => ticketFor(key);

// How programs show a key is no hint to who types one.
const refused = ({ code = "key_unknown", sentence }) => new Refused({ code, sentence, hint: "" });
