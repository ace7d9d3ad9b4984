// Builds the elements of the page; it asks nothing of the server and keeps no state.
import { number, percent, word } from "./words.js";
import { tile } from "./tiles.js";

export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

function meter(share, hue) {
  const filled = make("i");
  filled.style.setProperty("width", `${100 * Math.min(Math.max(share, 0), 1)}%`);
  if (hue != null) filled.style.setProperty("background", `hsl(${hue} 60% var(--tile-light))`);
  return make("span", { class: "meter", "aria-hidden": "true" }, filled);
}

const price = (value) => (value == null ? null : make("span", { class: "price" }, number(value, 2)));

// How a hit's rank differs from that of the same query when nothing is known of the user.
export function badge(change) {
  if (!change) return null;
  if (change.kind === "new") return make("span", { class: "badge new" }, word("fresh"));
  const arrow = change.kind === "up" ? "▲" : "▼";
  return make("span", { class: `badge ${change.kind}`, title: `${word("before")}: ${change.before}` }, `${arrow} ${change.by}`);
}

export function hit(found, options) {
  const { best, worst, sizes, change, wanted, onhistory, onwhy } = options;
  const span = best - worst || 1;
  const why = make("button", { type: "button", class: "act why-button", "aria-expanded": "false", onclick: (event) => onwhy(event.currentTarget) }, word("because"));
  const text = make(
    "div", { class: "text" },
    make("button", { type: "button", class: "title", onclick: onhistory, title: word("add") }, found.title),
    make(
      "div", { class: "meta" }, price(found.price), found.brand ? make("span", {}, found.brand) : null,
      found.categories.length ? make("span", {}, found.categories.join(" › ")) : null,
      found.url ? make("a", { href: found.url, target: "_blank", rel: "noopener noreferrer" }, `${word("open")} ↗`) : null,
      badge(change), wanted ? make("span", { class: "badge wanted" }, `✓ ${word("wanted")}`) : null,
    ),
  );
  const side = make(
    "div", { class: "side" },
    make("span", { class: "score", title: word("score") }, number(found.score, 3)),
    meter(0.08 + (0.92 * (found.score - worst)) / span),
    make("div", { class: "acts" }, make("button", { type: "button", class: "act", onclick: onhistory, "aria-label": `${word("add")}: ${found.title}` }, "＋"), why),
  );
  const row = make("div", { class: "row" }, make("span", { class: "rank" }, String(found.rank)), tile(found, sizes), text, side);
  return make("li", { class: wanted ? "hit wanted" : "hit", tabindex: "-1", "data-item": found.item_id }, row);
}

export function why(told, sizes) {
  const steps = told.codes.map((code) => {
    const share = Math.exp(code.log_probability);
    const facts = code.shared.map((fact) =>
      make("span", { class: "fact", title: `${fact.kind}; ${word("before")}: ${percent(fact.before)}` }, make("b", {}, fact.value), ` ${percent(fact.share)}`),
    );
    return make(
      "div", { class: "step" },
      make("div", { class: "code" }, make("span", {}, code.token), make("span", { title: word("probability") }, percent(share))),
      meter(share, Math.round((360 * code.code) / sizes[code.level])),
      facts.length ? make("div", { class: "facts" }, ...facts) : make("small", {}, word("noFacts")),
      make("small", {}, `${number(code.items)} ${word("under")}`),
      make("small", { class: "typical" }, `${word("like")} ${code.titles.join(" · ")}`),
    );
  });
  const panel = make("div", { class: "why" }, make("div", {}, make("h4", {}, word("path")), make("div", { class: "path" }, ...steps)));
  const ranks = make("div", { class: "bars" });
  for (const name of ["served", "beam", "text", "without_user"]) {
    if (!(name in told.ranks)) continue;
    const rank = told.ranks[name];
    ranks.append(make("span", {}, word(name)), meter(rank ? 1 / rank : 0), make("b", {}, rank ? `#${rank}` : `> ${told.depth}`));
  }
  const pair = make("div", { class: "pair" });
  if (told.towers) {
    const bars = make("div", { class: "bars" });
    ["click", "purchase", "both"].forEach((name, place) => bars.append(make("span", {}, word(name)), meter(told.towers[place]), make("b", {}, percent(told.towers[place]))));
    pair.append(make("div", {}, make("h4", {}, word("towers")), bars));
  }
  pair.append(make("div", {}, make("h4", {}, word("ranks")), ranks));
  panel.append(pair);
  return panel;
}

export function ranking(name, hits, served, sizes) {
  const places = new Map(served.map((found) => [found.item_id, found.rank]));
  const rows = hits.map((found) => {
    const place = places.get(found.item_id);
    return make(
      "li", {}, make("span", { class: "rank" }, String(found.rank)), tile(found, sizes),
      make("span", { title: found.title }, found.title),
      place ? make("span", { class: "badge up", title: word("served") }, `#${place}`) : make("span", { class: "badge" }, ""),
    );
  });
  return make("section", { class: "list", "data-ranking": name }, make("h3", {}, word(name), make("span", {}, word(`${name}Note`))), make("ol", {}, ...rows));
}

export function remembered(item, sizes, onremove) {
  const name = `${word("remove")}: ${item.title}`;
  return make("li", {}, tile(item, sizes), make("span", { title: item.title }, item.title), make("button", { type: "button", "aria-label": name, onclick: onremove }, "×"));
}

export function summary(found, beams) {
  return `${number(found.hits.length)} ${word("hits")} ${word("inTime")} ${number(1000 * found.seconds)} ms · ${number(beams)} ${word("beams")}`;
}

export function changes(list) {
  const count = (kind) => list.filter((change) => change?.kind === kind).length;
  const parts = [["up", "moved"], ["down", "fell"], ["new", "entered"]].map(([kind, name]) => [kind, count(kind), name]).filter(([, amount]) => amount);
  const shown = parts.map(([kind, amount, name]) => make("span", { class: `badge ${kind}` }, `${amount} ${word(name)}`));
  return [make("span", {}, word("changed")), ...(shown.length ? shown : [make("span", {}, word("none"))])];
}
