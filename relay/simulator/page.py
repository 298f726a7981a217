"""The page under ``/_sim/``: one text that asks for nothing from elsewhere.

It reads ``/_sim/counts``, ``/_sim/faults`` and ``/_sim/prices`` once a second.
"""

from typing import Final

PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Exchange simulator</title>
<link rel="icon" href="data:,">
<style>
:root { --page: #f6f7f9; --card: #fff; --ink: #17202a; --soft: #5c6873;
  --line: #dfe3e8; --good: #187a4a; --bad: #b3261e; --bar: #3467c6; }
@media (prefers-color-scheme: dark) {
  :root { --page: #12161b; --card: #1b2128; --ink: #e7ebef; --soft: #97a3af;
    --line: #303841; --good: #57c98c; --bad: #ff8a80; --bar: #7aa5f5; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 16px; max-width: 1280px; background: var(--page);
  color: var(--ink); font: 15px/1.45 system-ui, sans-serif; }
header { display: flex; flex-wrap: wrap; gap: 4px 16px; align-items: baseline; }
h1 { font-size: 20px; margin: 0; }
h2 { font-size: 16px; margin: 0; }
h3 { font-size: 13px; margin: 12px 0 4px; color: var(--soft); font-weight: 600; }
.soft { color: var(--soft); }
.num, td { font-variant-numeric: tabular-nums; }
main { display: grid; gap: 12px; margin: 12px 0; align-items: start;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 390px), 1fr)); }
section { background: var(--card); border: 1px solid var(--line);
  border-radius: 10px; padding: 12px 14px; min-width: 0; }
.top { display: flex; justify-content: space-between; gap: 8px; }
.price { font-variant-numeric: tabular-nums; font-weight: 600; }
dl { display: grid; grid-template-columns: repeat(3, 1fr); gap: 6px 10px;
  margin: 8px 0 0; }
dt { color: var(--soft); font-size: 12px; }
dd { margin: 0; font-size: 17px; font-variant-numeric: tabular-nums; }
.bad { color: var(--bad); } .good { color: var(--good); }
table { border-collapse: collapse; width: 100%; font-size: 13px; }
td { padding: 2px 8px 2px 0; border-top: 1px solid var(--line);
  overflow-wrap: anywhere; vertical-align: top; }
td:last-child { text-align: right; padding-right: 0; white-space: nowrap; }
meter { width: 100%; height: 8px; display: block; }
form { display: flex; flex-wrap: wrap; gap: 8px; align-items: end; }
label { font-size: 12px; color: var(--soft); display: grid; gap: 2px; }
select, input, button { font: inherit; color: inherit; background: var(--page);
  border: 1px solid var(--line); border-radius: 6px; padding: 6px 8px;
  max-width: 100%; }
button { cursor: pointer; } button:focus-visible, select:focus-visible,
input:focus-visible { outline: 2px solid var(--bar); outline-offset: 1px; }
code { font-size: 13px; }
</style>
</head>
<body>
<header><h1>Exchange simulator</h1>
<span class="soft">seed <b id="seed">?</b>, running for <b id="age">?</b>,
<span id="state" role="status">connecting</span></span></header>
<main id="cards"></main>
<section>
<h2>Faults</h2>
<form id="form">
<label>exchange<select name="exchange" id="names"></select></label>
<label>fault<select name="fault">
<option>cut<option>silence<option>garbage<option>delay<option>repeat<option>reorder
<option>gap<option>refuse<option>no_ack<option>wrong_ack<option>ignore<option>429
<option>418<option>451<option>403<option>503<option>server_shutdown<option>maintenance
<option>unauthorized<option>break</select></label>
<label>for, in ms<input name="for_ms" inputmode="numeric" size="7" value="5000"></label>
<label>value<input name="value" size="8"></label>
<label>symbol<input name="symbol" size="10"></label>
<button>Let it happen</button> <button type="button" id="clear">Take all back</button>
</form>
<p id="said" class="bad" role="alert"></p>
<table id="faults"></table>
</section>
<p class="soft">The same as JSON: <code>GET /_sim/counts</code>,
<code>/_sim/faults</code>, <code>/_sim/prices?exchange=binance</code>.</p>
<script>
"use strict";
const $ = id => document.getElementById(id);
const show = {binance: "BTCUSDT", coinbase: "BTC-USD", coinbase_exchange: "BTC-USD",
  kraken: "BTC/USD", coincap: "bitcoin", coingecko: "bitcoin"};
const make = (tag, text, kind) => { const e = document.createElement(tag);
  if (text !== undefined) e.textContent = text;
  if (kind) e.className = kind; return e; };
const plain = n => n.toLocaleString("en");
const table = rows => { const t = make("table"); for (const row of rows) {
  const r = t.insertRow(); for (const cell of row) r.insertCell().append(cell); }
  return t; };
const listed = counts => Object.entries(counts).sort((a, b) => b[1] - a[1])
  .map(([name, n]) => [name, plain(n)]);
function card(name, one, price) {
  const t = one.total, s = make("section"), top = make("div", undefined, "top");
  top.append(make("h2", name.replace("_", " ")), make("span", price || "?", "price"));
  const d = make("dl");
  const put = (word, n, kind) => { const box = make("div");
    box.append(make("dt", word), make("dd", plain(n), kind)); d.append(box); };
  const sum = o => Object.values(o).reduce((a, b) => a + b, 0);
  const warn = n => n ? "bad" : "good";
  put("connections open", t.connections.open);
  put("opened", t.connections.opened); put("cut by us", t.connections.cut);
  put("subscribed", t.subscriptions.open);
  put("frames sent", t.messages.sent); put("frames heard", t.messages.received);
  put("requests", t.requests.total); put("weight", t.weight_spent);
  put("credits", t.credits_spent);
  put("breaches", t.breaches_total, warn(t.breaches_total));
  put("refusals earned", sum(t.refusals.earned), warn(sum(t.refusals.earned)));
  put("bans", t.bans, warn(t.bans));
  s.append(top, d);
  const part = (title, rows) => { if (rows.length)
    s.append(make("h3", title), table(rows)); };
  part("Limits", Object.entries(one.limits).flatMap(([limit, scopes]) =>
    Object.entries(scopes).slice(0, 6).map(([scope, c]) => {
      const cell = make("div", limit + " · " + scope), m = make("meter");
      m.max = c.most; m.value = c.used; m.high = c.most * 0.9; m.optimum = 0;
      m.setAttribute("aria-label", limit);
      cell.append(m);
      return [cell, plain(c.used) + " of " + plain(c.most) + ", peak " + plain(c.peak)];
    })));
  part("Breaches", listed(t.breaches));
  part("Refused because of a breach", listed(t.refusals.earned));
  part("Faults that struck", listed(t.faults));
  part("Requests", listed(t.requests.by_path).slice(0, 8));
  part("Clients", Object.entries(one.clients).slice(0, 12).map(([who, c]) =>
    [who, c.connections.open + " open, " + plain(c.requests.total) + " requests"]));
  return s;
}
const get = async path => (await fetch(path, {cache: "no-store"})).json();
async function look() {
  try {
    const [counts, faults] = await Promise.all([get("/_sim/counts"),
      get("/_sim/faults")]);
    const names = Object.keys(counts.exchanges);
    const prices = await Promise.all(names.map(n => get("/_sim/prices?exchange=" +
      n + "&symbol=" + encodeURIComponent(show[n]))));
    $("seed").textContent = counts.seed;
    const s = Math.round((counts.now_ms - counts.started_ms) / 1000);
    $("age").textContent = s < 120 ? s + " s" : Math.floor(s / 60) + " min";
    $("cards").replaceChildren(...names.map((n, i) =>
      card(n, counts.exchanges[n], prices[i].prices[show[n]])));
    $("faults").replaceChildren(...table(faults.faults.map(f =>
      [f.id + ": " + f.fault.exchange + " " + f.fault.fault + " " +
        (f.fault.symbol || ""), "struck " + f.struck])).childNodes);
    if (!$("names").options.length)
      for (const n of names) $("names").append(make("option", n));
    $("state").textContent = "live"; $("state").className = "good";
  } catch (error) {
    $("state").textContent = "out of reach"; $("state").className = "bad";
  }
  setTimeout(look, 1000);
}
$("form").addEventListener("submit", async event => {
  event.preventDefault();
  const order = {};
  for (const [key, text] of new FormData(event.target))
    if (text) order[key] = key === "for_ms" || (key === "value" && /^\\d+$/.test(text))
      ? Number(text) : text;
  const answer = await fetch("/_sim/faults", {method: "POST",
    body: JSON.stringify(order)});
  $("said").textContent = answer.ok ? "" : (await answer.json()).message;
});
$("clear").addEventListener("click", () => fetch("/_sim/faults", {method: "DELETE"}));
look();
</script>
</body>
</html>
"""
