// The page of the API, drawn from openapi.json: endpoints, fields, examples that can be sent.
import { make } from "./render.js";

document.documentElement.dataset.theme = localStorage.getItem("theme") ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");

const open = await (await fetch("openapi.json")).json();

function resolve(schema) {
  return schema?.$ref ? open.components.schemas[schema.$ref.split("/").pop()] : schema;
}

function kind(schema) {
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf) return schema.anyOf.map(kind).join(" | ");
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.type === "array") return `[${kind(schema.items ?? {})}]`;
  return schema.type ?? "any";
}

function row(name, schema, required) {
  const limits = ["minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems"].filter((key) => key in schema).map((key) => `${key} ${schema[key]}`);
  const usual = schema.default === undefined ? "" : `default ${JSON.stringify(schema.default)}`;
  const note = [schema.description ?? "", ...limits, required ? "required" : usual].filter(Boolean).join("; ");
  return make("tr", {}, make("td", {}, make("code", {}, name)), make("td", {}, kind(schema)), make("td", {}, note));
}

function table(rows) {
  const heads = ["field", "type", "meaning"].map((head) => make("th", { scope: "col" }, head));
  return make("table", {}, make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...rows));
}

function endpoint(path, verb, about) {
  const body = resolve(about.requestBody?.content?.["application/json"]?.schema);
  const parts = [];
  const parameters = about.parameters ?? [];
  const shown = [...parameters.map((one) => row(one.name, { ...one.schema, description: one.description ?? one.schema.description }, one.required))];
  if (body) shown.push(...Object.entries(body.properties).map(([name, schema]) => row(name, schema, body.required?.includes(name))));
  if (shown.length) parts.push(make("h3", {}, "Fields"), table(shown));
  const statuses = Object.entries(about.responses).map(([status, answer]) => `${status}: ${answer.description}`);
  parts.push(make("h3", {}, "Answers"), make("div", {}, statuses.join(" · ")));
  const example = body?.examples?.[0];
  const text = make("textarea", { "aria-label": `Body of ${verb} ${path}`, spellcheck: "false" });
  text.value = JSON.stringify(example ?? {}, null, 2);
  const address = make("textarea", { "aria-label": `Address of ${verb} ${path}`, spellcheck: "false" });
  address.value = path.slice(1) + (parameters.some((one) => one.in === "query") ? `?${parameters[0].name}=` : "");
  const result = make("pre", { "aria-live": "polite", hidden: true });
  async function send() {
    const headers = { "Content-Type": "application/json" };
    const key = document.getElementById("key").value;
    if (key) headers["X-API-Key"] = key;
    const options = { method: verb.toUpperCase(), headers, ...(body ? { body: text.value } : {}) };
    const response = await fetch(body ? path.slice(1) : address.value, options);
    const answer = await response.text();
    result.hidden = false;
    try {
      result.textContent = `${response.status}\n${JSON.stringify(JSON.parse(answer), null, 2)}`;
    } catch {
      result.textContent = `${response.status}\n${answer}`;
    }
  }
  parts.push(make("h3", {}, "Example"), body ? text : address, make("button", { type: "button", class: "send", onclick: send }, "Send"), result);
  const head = make("summary", {}, make("span", { class: `verb ${verb}` }, verb.toUpperCase()), make("code", {}, path), make("span", {}, about.description ?? about.summary));
  return make("details", {}, head, make("div", { class: "inner" }, ...parts));
}

document.getElementById("version").textContent = `version ${open.info.version}`;
document.getElementById("about").textContent = open.info.description.replaceAll("`", "").trim();
const list = Object.entries(open.paths).flatMap(([path, verbs]) => Object.entries(verbs).map(([verb, about]) => endpoint(path, verb, about)));
document.getElementById("endpoints").replaceChildren(...list);
