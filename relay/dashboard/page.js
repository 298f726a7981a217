// The page at /: one subscription to the whole board, a table, and how the relay is.

import { Refused, subscribe } from "./relay.js";
import { ask, forget, holds, keep, ticket, ticketFor } from "./door.js";
import { Latency } from "./latency.js";
import { ago } from "./row.js";
import { Sparks } from "./spark.js";
import { System } from "./system.js";
import { Table } from "./table.js";

const $ = (id) => document.getElementById(id);

// Eyes see no more than this; the sockets of thousands of pages do.
const PACE = "250ms";
// A search that is still being typed is not announced.
const COUNT_MS = 400;

const WORDS = {
  connecting: "connecting",
  live: "live",
  stale: "stale",
  reconnecting: "reconnecting",
  offline: "offline",
  paused: "paused",
  refused: "refused",
  locked: "locked",
  closed: "closed",
};
const WAYS = { stream: "SSE", poll: "long-poll", ws: "WebSocket" };

const lists = new Map();
const sparks = new Sparks();
const latency = new Latency({ bars: $("latency"), words: $("latency-words"), clock: $("latency-clock") });
const table = new Table({
  grid: $("grid"),
  body: $("rows"),
  sparks,
  drawn: () => measure(),
  arranged: (shown) => count(shown),
});
table.nowMs = () => latency.nowMs();

// ------------------------------------------------------------------- prices

let newest = null;
let unmeasured = [];

let prices = null;

function take({ changed, gone, prices: all, asOfMs }) {
  table.take({ changed, gone, prices: all });
  if (!changed.length) return;
  newest = all.get(changed.at(-1));
  // What was there before us took its time elsewhere.
  if (asOfMs && table.begun) unmeasured = unmeasured.concat(changed.map((name) => all.get(name)));
  table.begun = true;
  showMore();
}

// A ticker is on the screen when the frame that drew it has been drawn.
function measure() {
  if (!unmeasured.length) return;
  latency.note(unmeasured);
  unmeasured = [];
}

// -------------------------------------------------------------- the connection

function showState({ state, way, error }) {
  $("state").dataset.state = state;
  $("prices").dataset.state = state;
  $("state-word").textContent = WORDS[state];
  $("state").title = error ?? "";
  for (const input of $("way").querySelectorAll("input")) {
    input.toggleAttribute("data-used", input.value === way);
  }
  if (state === "refused") doubt(error);
  showMore();
}

// Not a live region: it changes all the time.
function showMore() {
  const { state, way, role, error } = prices?.status ?? {};
  const parts = [];
  if (state === "stale") parts.push("the relay hears nothing new");
  if (way) parts.push(role === "follows" ? `${WAYS[way]} of another tab` : WAYS[way]);
  if (newest) parts.push(`${newest.source ?? "?"}, ${ago(latency.nowMs() - newest.received_ms)} ago`);
  if (state === "refused") parts.push(error);
  const words = parts.join(" · ");
  if ($("state-more").textContent !== words) $("state-more").textContent = words;
}

$("way").addEventListener("change", ({ target }) => prices?.use(target.value));

// ------------------------------------------------------------------------ the door

function enter() {
  document.body.dataset.door = "open";
  $("forget").hidden = !holds();
  const way = $("way").querySelector(":checked").value;
  const issue = holds() ? ticket : undefined;
  prices = subscribe("all", { every: PACE, way, ticket: issue, onStatus: showState, onChange: take });
  showState(prices.status);
  system.turn(true);
  readLists().catch(() => {});
}

// What was read with the key goes with it.
function leave(why = "") {
  prices?.close();
  prices = newest = null;
  unmeasured = [];
  forget();
  $("forget").hidden = true;
  system.turn(false);
  table.take({ changed: [], gone: [...table.prices.keys()], prices: new Map() });
  table.begun = false;
  document.body.dataset.door = "shut";
  showState({ state: "locked", way: null, error: null });
  complain(why);
}

function complain(words) {
  $("wrong").textContent = words;
  if (words) $("key").setAttribute("aria-invalid", "true");
  else $("key").removeAttribute("aria-invalid");
}

// The relay was locked while the page was open, or takes the key no more.
async function doubt(error) {
  const held = holds();
  // Not what the browser was given when the key still held.
  const answer = await ask("/v1/symbols", { cache: "no-store" }).catch(() => null);
  if (answer?.ok || prices?.status.state !== "refused") return;
  leave(held ? error : "");
  $("key").focus();
}

$("door").addEventListener("submit", async (event) => {
  event.preventDefault();
  const [input, button] = [$("key"), $("open")];
  if (button.disabled) return;
  complain("");
  button.disabled = true;
  try {
    const text = input.value.trim();
    await ticketFor(text);
    keep(text);
    input.value = "";
    enter();
    $("grid").focus({ focusVisible: false });
  } catch (error) {
    complain(error instanceof Refused ? error.message : `The relay cannot be asked now: ${error.message}`);
    input.focus();
    input.select();
  } finally {
    button.disabled = false;
  }
});

$("forget").addEventListener("click", () => {
  leave();
  $("key").focus();
});

// ------------------------------------------------------------ search, sort, lists

let counting = 0;
let unread = false;

function sayEmpty(shown) {
  $("empty").hidden = shown > 0;
  if (table.prices.size) $("empty").textContent = "No instrument of that name is on the board.";
  else if (unread) $("empty").textContent = "No exchange can be read yet; each source says why.";
  else $("empty").textContent = "Waiting for the first price …";
}

// Nobody should have to guess what an empty board waits for.
function hearStatus({ sources }) {
  const all = Object.values(sources);
  unread = all.length > 0 && all.every(({ alive, reason }) => !alive || reason);
  if (!table.prices.size) sayEmpty(0);
}

function count(shown) {
  sayEmpty(shown);
  clearTimeout(counting);
  counting = setTimeout(() => {
    const all = table.prices.size;
    const words = shown === all ? `${all} instruments` : `${shown} of ${all} instruments`;
    if ($("counts").textContent !== words) $("counts").textContent = words;
  }, COUNT_MS);
}

function sortBy(by, down) {
  table.show({ by, down });
  for (const button of document.querySelectorAll("[data-sort]")) {
    const header = button.parentNode;
    if (button.dataset.sort !== by) header.removeAttribute("aria-sort");
    else header.setAttribute("aria-sort", down ? "descending" : "ascending");
  }
  const value = by + (down ? "-" : "");
  $("sort").value = [...$("sort").options].some((one) => one.value === value) ? value : "name";
}

$("filter").addEventListener("submit", (event) => event.preventDefault());
$("search").addEventListener("input", () => table.show({ text: $("search").value }));
$("list").addEventListener("change", () => table.show({ list: lists.get($("list").value) ?? null }));
$("sort").addEventListener("change", ({ target }) => sortBy(target.value.replace("-", ""), target.value.endsWith("-")));
for (const button of document.querySelectorAll("[data-sort]")) {
  button.addEventListener("click", () => {
    const { by, down } = table.sorted;
    const { sort } = button.dataset;
    // The largest first, for what is a number.
    sortBy(sort, sort === by ? !down : sort === "price" || sort === "change");
  });
}

document.addEventListener("keydown", (event) => {
  const typing = event.target.matches("input:not([type=radio]), select");
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    $("search").focus();
    $("search").select();
  } else if (event.target === $("search") && ["ArrowDown", "Enter"].includes(event.key)) {
    event.preventDefault();
    $("grid").focus();
    table.first();
  } else if (event.target === $("search") && event.key === "Escape") {
    $("search").value = "";
    table.show({ text: "" });
  }
});

async function readLists() {
  const asker = prices;
  const answer = await ask("/v1/symbols");
  if (!answer.ok) return;
  const { lists: given, names } = await answer.json();
  if (prices !== asker) return;
  const chosen = $("list").value;
  lists.clear();
  $("list").length = 1;
  for (const [name, instruments] of Object.entries(given)) {
    lists.set(name, instruments);
    $("list").append(new Option(name, name));
  }
  table.call(names);
  // What was chosen before the key was forgotten is still what is shown.
  if (!chosen) return;
  $("list").value = lists.has(chosen) ? chosen : "";
  table.show({ list: lists.get(chosen) ?? null });
}

// ----------------------------------------------------------------- view and theme

$("view").addEventListener("change", ({ target }) => {
  document.body.dataset.view = target.value;
});

const THEMES = { "": "as the system", light: "light", dark: "dark" };

function showTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
  const [icon, words] = $("theme").children;
  for (const path of icon.children) path.toggleAttribute("data-shown", path.dataset.shows === theme);
  words.textContent = `Colours: ${THEMES[theme]}`;
}

$("theme").addEventListener("click", () => {
  const names = Object.keys(THEMES);
  const now = document.documentElement.dataset.theme ?? "";
  const next = names[(names.indexOf(now) + 1) % names.length];
  showTheme(next);
  remember(next);
});

// A browser may keep nothing for us; then the system's colours are as good.
function remember(theme) {
  try {
    localStorage.setItem("theme", theme);
  } catch {
    // It holds until the page is closed.
  }
}

function remembered() {
  try {
    const theme = localStorage.getItem("theme");
    return theme in THEMES ? theme : "";
  } catch {
    return "";
  }
}

showTheme(remembered());

// -------------------------------------------------------------------------- the clock

const system = new System({ compare: (...times) => latency.compare(...times), told: hearStatus });
setInterval(() => {
  if (document.hidden) return;
  table.tick();
  latency.tick();
  showMore();
}, 1000);

// The relay has written into the page whether anything can be read without a key.
if (holds() || document.body.dataset.door === "open") enter();
else leave();
