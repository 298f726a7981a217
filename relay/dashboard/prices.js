// The table at /: reads the stream, falls back to polling, shows what moves.
// Text reaches the page as text nodes only, so nothing in it can become markup.

import { Feed } from "/dashboard/feed.js";

const $ = (id) => document.getElementById(id);
const rows = new Map();
const lists = new Map();
// The newest of our clock minus the server's that we have seen: its least is the skew.
let skew = Infinity;
let shown = "";

const WORDS = {
  connecting: "connecting",
  live: "live",
  reconnecting: "reconnecting",
  stale: "stale: the relay hears nothing new",
  offline: "offline",
};

// 61000.12 becomes 61,000.12, by its digits: a price is never made a number.
function grouped(text) {
  const [whole, part] = (text ?? "").split(".");
  const digits = whole.replace(/\B(?=(\d{3})+(?!\d))/g, ",");
  return part === undefined ? digits : `${digits}.${part}`;
}

// Which of two decimal texts is larger, digit by digit; prices are never negative.
function compare(a, b) {
  const [wholeA, partA = ""] = a.split(".");
  const [wholeB, partB = ""] = b.split(".");
  const width = Math.max(wholeA.length, wholeB.length);
  const length = Math.max(partA.length, partB.length);
  const x = wholeA.padStart(width, "0") + partA.padEnd(length, "0");
  const y = wholeB.padStart(width, "0") + partB.padEnd(length, "0");
  return x < y ? -1 : x > y ? 1 : 0;
}

function cell(row, name, kind, role) {
  const made = document.createElement(kind);
  made.className = name;
  made.setAttribute("role", role);
  row.append(made);
  return made;
}

function span(parent, name) {
  const made = document.createElement("span");
  made.className = name;
  parent.append(made);
  return made;
}

function makeRow(name) {
  const tr = document.createElement("tr");
  tr.setAttribute("role", "row");
  const [, base, quote] = /^(.*)-([^-]*)$/.exec(name) ?? [name, name, ""];
  const th = cell(tr, "name", "th", "rowheader");
  th.scope = "row";
  span(th, "base").textContent = base;
  span(th, "quote").textContent = quote && `-${quote}`;
  const price = cell(tr, "price number", "td", "cell");
  const sign = span(price, "sign");
  sign.setAttribute("aria-hidden", "true");
  const amount = span(price, "amount");
  const change = cell(tr, "change number", "td", "cell");
  const bid = cell(tr, "bid number", "td", "cell");
  const ask = cell(tr, "ask number", "td", "cell");
  const source = cell(tr, "source", "td", "cell");
  const age = cell(tr, "age number", "td", "cell");
  return { name, tr, price, sign, amount, change, bid, ask, source, age, ticker: {} };
}

function flash(row, direction) {
  row.sign.textContent = direction > 0 ? "▲" : "▼";
  row.sign.className = direction > 0 ? "sign up" : "sign down";
  row.price.classList.remove("rose", "fell");
  // Reading a size lets the removal take effect, so that the animation starts again.
  void row.price.offsetWidth;
  row.price.classList.add(direction > 0 ? "rose" : "fell");
}

function tag(parent, kind, text) {
  span(parent, `tag ${kind}`).textContent = text;
}

function fill(row, ticker) {
  const before = row.ticker;
  row.ticker = ticker;
  if (ticker.price !== before.price) {
    row.amount.textContent = grouped(ticker.price);
    if (before.price && ticker.price) flash(row, compare(ticker.price, before.price));
  }
  fillChange(row.change, ticker.change_24h_pct);
  row.bid.textContent = grouped(ticker.bid);
  row.ask.textContent = grouped(ticker.ask);
  row.ask.dataset.bid = grouped(ticker.bid);
  row.source.textContent = ticker.source ?? "";
  if (ticker.via) tag(row.source, "via", `via ${ticker.via}`);
  if (ticker.stale) tag(row.source, "stale", "stale");
  row.tr.classList.toggle("old", Boolean(ticker.stale));
}

function fillChange(into, text) {
  into.classList.remove("up", "down");
  into.textContent = "";
  if (!text) return;
  const [whole, part = ""] = text.replace("-", "").split(".");
  const digits = `${whole}.${part.padEnd(2, "0").slice(0, 2)}`;
  const none = /^[0.]*$/.test(digits);
  const falls = text.startsWith("-");
  into.textContent = `${none ? "" : falls ? "−" : "+"}${digits} %`;
  if (!none) into.classList.add(falls ? "down" : "up");
}

function take(body) {
  skew = Math.min(skew, Date.now() - body.as_of_ms);
  if (body.reset) for (const name of [...rows.keys()]) drop(name);
  for (const name of body.gone) drop(name);
  for (const [name, ticker] of Object.entries(body.prices)) {
    const row = rows.get(name) ?? add(name);
    fill(row, ticker);
    showAge(row);
  }
  count();
}

function add(name) {
  const row = makeRow(name);
  rows.set(name, row);
  shown = "";
  return row;
}

function drop(name) {
  rows.get(name)?.tr.remove();
  rows.delete(name);
  shown = "";
}

// Rows stand in the list's order where one is chosen, else by name.
function arrange() {
  const list = lists.get($("list").value);
  const text = $("search").value.trim().toUpperCase().replace("/", "-");
  const names = (list ?? [...rows.keys()].sort()).filter(
    (name) => rows.has(name) && name.includes(text),
  );
  const key = names.join("\n") || "none";
  if (key === shown) return;
  shown = key;
  $("rows").replaceChildren(...names.map((name) => rows.get(name).tr));
  $("empty").hidden = names.length > 0;
  $("empty").textContent = rows.size
    ? "No instrument of that name is on the board."
    : "Waiting for the first price …";
}

function count() {
  arrange();
  const stale = [...rows.values()].filter((row) => row.ticker.stale).length;
  const words = `${rows.size} instruments${stale ? `, ${stale} of them stale` : ""}`;
  if ($("counts").textContent !== words) $("counts").textContent = words;
}

function showAge(row) {
  const at = row.ticker.received_ms;
  if (!at || !Number.isFinite(skew)) return;
  const s = Math.max(0, Math.floor((Date.now() - skew - at) / 1000));
  const text = s < 60 ? `${s} s` : s < 3600 ? `${Math.floor(s / 60)} min` : `${Math.floor(s / 3600)} h`;
  if (row.age.textContent !== text) row.age.textContent = text;
}

function showState(state) {
  if ($("state").dataset.state === state) return;
  $("state").dataset.state = state;
  $("state-word").textContent = WORDS[state];
}

async function readLists() {
  const answer = await fetch("/v1/symbols");
  if (!answer.ok) return;
  const known = (await answer.json()).lists;
  for (const [name, instruments] of Object.entries(known)) {
    lists.set(name, instruments);
    $("list").append(new Option(name, name));
  }
}

$("filter").addEventListener("submit", (event) => event.preventDefault());
$("filter").addEventListener("input", arrange);
setInterval(() => rows.forEach(showAge), 1000);
readLists().catch(() => {});
new Feed({ take, state: showState }).start();
