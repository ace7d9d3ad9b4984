// The search page: what the user typed and chose, and what happens then.
import { get, post, Fault } from "./api.js";
import { changes, hit, make, ranking, remembered, summary, why } from "./render.js";
import { language, number, setLanguage, word } from "./words.js";

const WAIT = 120; // milliseconds after the last key before the search begins
const TOP = 10;
const DEEP = 50; // hits without the user, among which ranks are compared

const $ = (id) => document.getElementById(id);
const state = { catalogue: null, shoppers: [], shopper: null, history: [], categories: [], hits: [] };
let timer = 0;

const nothingKnown = () => !state.history.length && !state.shopper;

function body(more = {}) {
  const user = nothingKnown() ? {} : {
    history: state.history.map((item) => item.item_id),
    purchased: state.shopper?.purchased ?? [],
    queries: state.shopper?.queries ?? [],
    profile: state.shopper?.profile ?? [],
    unknown_items: "skip",
  };
  const filters = state.categories.length ? { categories: state.categories } : {};
  if ($("unseen").checked) filters.exclude_history = true;
  return { query: $("query").value, top_k: TOP, ...user, ...filters, ...more };
}

function bodyWithoutUser() {
  const { history, purchased, queries, profile, unknown_items, ...rest } = body({ top_k: DEEP });
  return $("unseen").checked && history ? { ...rest, exclude: history } : rest;
}

function show(name, text = "") {
  $("blank").hidden = !["start", "nothing"].includes(name);
  $("blank-text").textContent = name === "start" || name === "nothing" ? word(name) : "";
  $("fault").hidden = name !== "fault";
  $("hits").setAttribute("aria-busy", String(name === "loading"));
  $("status").textContent = name === "loading" ? word("loading") : name === "hits" ? text : "";
  if (name !== "hits" && name !== "loading") {
    $("hits").replaceChildren();
    $("changed").hidden = $("compare").hidden = true;
  }
}

function fail(error) {
  const message = !(error instanceof Fault) ? word("offline") : error.status === 503 ? `${word("busy")} ${error.message}` : error.message;
  show("fault");
  $("fault").replaceChildren(make("span", {}, message), make("button", { type: "button", onclick: search }, word("retry")));
}

async function search() {
  clearTimeout(timer);
  const query = $("query").value.trim();
  history.replaceState(null, "", query ? `?q=${encodeURIComponent(query)}` : location.pathname);
  if (!query) return show("start");
  show("loading");
  try {
    const others = state.catalogue.rankings.filter((name) => name !== "served");
    const known = !nothingKnown();
    const served = post("search", body(), "served"); // first in the queue
    const compared = $("compare-on").checked ? others.map((name) => post("search", body({ ranking: name }), name)) : [];
    const plain = known ? post("search", bodyWithoutUser(), "plain") : null;
    for (const promise of [...compared, plain]) promise?.catch(() => {}); // reported below, or replaced by a newer search
    const found = await served;
    draw(found, []);
    const [before, ...lists] = await Promise.all([plain, ...compared]);
    draw(found, lists.map((list, place) => [others[place], list.hits]), before?.hits);
  } catch (error) {
    if (error.name !== "AbortError") fail(error);
  }
}

function changeOf(found, before) {
  if (!before) return null;
  const rank = before.find((other) => other.item_id === found.item_id)?.rank;
  if (!rank || rank > TOP) return { kind: "new" };
  return rank === found.rank ? null : { kind: rank > found.rank ? "up" : "down", by: Math.abs(rank - found.rank), before: rank };
}

function draw(found, lists, before) {
  state.hits = found.hits;
  if (!found.hits.length) return show("nothing");
  show("hits", summary(found, state.catalogue.num_beams));
  const scores = found.hits.map((one) => one.score);
  const moved = found.hits.map((one) => changeOf(one, before));
  const wanted = new Set($("query").value.trim() === state.shopper?.query ? state.shopper.wanted : []);
  const common = { best: Math.max(...scores), worst: Math.min(...scores), sizes: state.catalogue.codebook_sizes };
  const open = document.activeElement?.closest?.(".hit")?.dataset.item;
  $("hits").replaceChildren(...found.hits.map((one, place) =>
    hit(one, { ...common, change: moved[place], wanted: wanted.has(one.item_id), onhistory: () => remember(one), onwhy: (button) => explain(one, button) }),
  ));
  if (open) $("hits").querySelector(`[data-item="${CSS.escape(open)}"]`)?.focus();
  $("changed").hidden = !before;
  if (before) $("changed").replaceChildren(...changes(moved));
  $("compare").hidden = !lists.length;
  $("rankings").replaceChildren(...lists.map(([name, hits]) => ranking(name, hits, found.hits, common.sizes)));
}

async function explain(found, button) {
  const card = button.closest(".hit");
  const opened = card.querySelector(".why");
  button.setAttribute("aria-expanded", String(!opened));
  if (opened) return opened.remove();
  button.disabled = true;
  try {
    const told = await post("explain", body({ item_id: found.item_id, top_k: DEEP }));
    card.append(why(told, state.catalogue.codebook_sizes));
  } catch (error) {
    fail(error);
  } finally {
    button.disabled = false;
  }
}

function remember(item) {
  state.history.push(item);
  drawUser();
  search();
}

function drawUser() {
  $("history").replaceChildren(...[...state.history].reverse().map((item, place) =>
    remembered(item, state.catalogue.codebook_sizes, () => {
      state.history.splice(state.history.length - 1 - place, 1);
      drawUser();
      search();
    }),
  ));
  $("history-count").textContent = state.history.length ? number(state.history.length) : "";
  $("history-hint").hidden = state.history.length > 0;
  $("clear").hidden = nothingKnown();
  $("profile").replaceChildren(...(state.shopper?.profile ?? []).map((part) => make("span", { class: "tag" }, part)));
  $("their").hidden = !state.shopper;
  if (state.shopper) $("their").textContent = `${word("their")}: “${state.shopper.query}”`;
  $("shopper").value = state.shopper?.user_id ?? "";
}

function become(shopper) {
  state.shopper = shopper ?? null;
  state.history = shopper ? [...shopper.history] : [];
  drawUser();
  search();
}

function drawChoices() {
  const { categories, examples } = state.catalogue;
  $("category").replaceChildren(make("option", { value: "" }, word("allCategories")), ...categories.map((name) => make("option", { value: name }, name)));
  $("chosen").replaceChildren(...state.categories.map((name) => make("button", { type: "button", class: "tag", onclick: () => drop(name) }, `${name} ×`)));
  $("examples").replaceChildren(...examples.map((text) => make("button", { type: "button", onclick: () => ask(text) }, text)));
  $("shopper").replaceChildren(make("option", { value: "" }, word("anyone")), ...state.shoppers.map((one) => make("option", { value: one.user_id }, `${one.user_id} · ${one.profile.join(", ")}`)));
  $("pick").hidden = !state.shoppers.length;
}

function drop(name) {
  state.categories = state.categories.filter((other) => other !== name);
  drawChoices();
  search();
}

function ask(text) {
  $("query").value = text;
  search();
}

function speak(name) {
  setLanguage(name);
  localStorage.setItem("language", language());
  const { name: market, items } = state.catalogue;
  $("market").textContent = `${market} · ${number(items)} ${word("items")}`;
  $("query").placeholder = word("placeholder");
  $("language").textContent = word("other");
  drawTheme();
  drawChoices();
  drawUser();
  search();
}

const isDark = () => document.documentElement.dataset.theme === "dark";

function drawTheme(chosen) {
  if (chosen) localStorage.setItem("theme", chosen);
  const wanted = localStorage.getItem("theme") ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  document.documentElement.dataset.theme = wanted;
  $("theme").textContent = word(isDark() ? "light" : "dark");
}

function keys(event) {
  const typing = ["INPUT", "SELECT"].includes(event.target.tagName);
  if (event.key === "/" && !typing) {
    event.preventDefault();
    return $("query").select();
  }
  const cards = [...$("hits").children];
  const place = cards.indexOf(document.activeElement?.closest(".hit"));
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    if (event.target.tagName === "SELECT" || !cards.length) return;
    event.preventDefault();
    const next = place + (event.key === "ArrowDown" ? 1 : -1);
    if (next < 0) $("query").focus();
    else cards[Math.min(next, cards.length - 1)].focus();
  } else if (place >= 0 && event.target === cards[place]) {
    if (event.key === "Enter") cards[place].querySelector(".title").click();
    if (event.key === "e") cards[place].querySelector(".why-button").click();
  }
}

async function begin() {
  drawTheme();
  setLanguage(localStorage.getItem("language") ?? (navigator.language.startsWith("zh") ? "zh" : "en"));
  $("query").addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(search, WAIT);
  });
  $("form").addEventListener("submit", (event) => {
    event.preventDefault();
    search();
  });
  $("language").addEventListener("click", () => speak(language() === "zh" ? "en" : "zh"));
  $("theme").addEventListener("click", () => drawTheme(isDark() ? "light" : "dark"));
  $("shopper").addEventListener("change", () => become(state.shoppers.find((one) => one.user_id === $("shopper").value)));
  $("their").addEventListener("click", () => ask(state.shopper.query));
  $("clear").addEventListener("click", () => become(null));
  $("unseen").addEventListener("change", search);
  $("compare-on").addEventListener("change", search);
  $("category").addEventListener("change", () => {
    if ($("category").value && !state.categories.includes($("category").value)) state.categories.push($("category").value);
    drawChoices();
    search();
  });
  document.addEventListener("keydown", keys);
  try {
    state.catalogue = await get("catalogue");
    if (state.catalogue.shoppers) state.shoppers = (await get("shoppers")).shoppers;
  } catch (error) {
    show("fault");
    return $("fault").replaceChildren(word("offline"), make("button", { type: "button", onclick: () => location.reload() }, word("retry")));
  }
  $("query").value = new URLSearchParams(location.search).get("q") ?? "";
  speak(language());
  $("query").focus();
}

begin();
