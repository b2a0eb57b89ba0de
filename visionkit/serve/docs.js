const METHODS = ["get", "post", "put", "delete"];

const byId = (id) => document.getElementById(id);
const at = (path) => new URL(path, document.baseURI).href;

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** Text in which `words` between backticks are code. */
const inline = (text) => text.split("`").map((part, place) => (place % 2 ? element("code", {}, part) : part));

const SHELL = () => `curl -F image=@photo.jpg -F conf=0.4 ${at("v1/detect")}
printf '{"image": "%s", "conf": 0.4}' "$(base64 < photo.jpg | tr -d '\\n')" |
  curl -H 'Content-Type: application/json' -d @- ${at("v1/detect")}`;

const PYTHON = () => `import base64, json, urllib.request

picture = base64.b64encode(open("photo.jpg", "rb").read()).decode()
body = json.dumps({"image": picture, "conf": 0.4}).encode()
request = urllib.request.Request("${at("v1/detect")}", body, {"Content-Type": "application/json"})
for item in json.load(urllib.request.urlopen(request))["items"]:
    print(item["name"], item)`;

function typeOf(schema) {
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(", ");
  if (schema.anyOf) return schema.anyOf.map(typeOf).join(" or ");
  if (schema.type === "array") return `list of ${typeOf(schema.items ?? {}) || "objects"}`;
  const words = { string: schema.format === "binary" ? "file" : "text", number: "number", integer: "whole number", object: "object", null: "null" }[schema.type] ?? "";
  const range = schema.minimum !== undefined && schema.maximum !== undefined ? ` from ${schema.minimum} to ${schema.maximum}` : "";
  return words + range;
}

function fieldsTable(schema, whereRequired = "") {
  const rows = Object.entries(schema.properties ?? {}).map(([name, field]) => {
    const fallback = field.default === undefined ? (schema.required?.includes(name) ? whereRequired : "") : `else ${JSON.stringify(field.default)}`;
    return element("tr", {}, element("td", {}, element("code", {}, name)), element("td", {}, typeOf(field)), element("td", {}, fallback), element("td", {}, field.description ?? ""));
  });
  return element("div", { class: "scroll" }, element("table", {}, ...rows));
}

/** Of a Result: what an item of each task has. */
function itemTables(schema) {
  return (schema.allOf ?? []).flatMap(({ if: { properties: { task } }, then }) => {
    const item = schema.$defs[then.properties.items.items.$ref.split("/").pop()];
    const fields = Object.entries(item.properties).map(([name, field]) => [name, { ...schema.$defs[field.$ref?.split("/").pop()], ...field }]);
    return [element("h3", {}, `Keys of an item, task ${task.const}`), fieldsTable({ properties: Object.fromEntries(fields) })];
  });
}

function operation(method, path, said) {
  const title = element("h2", {}, element("span", { class: "method" }, method.toUpperCase()), element("code", {}, path));
  const parts = [title, element("p", {}, ...inline(said.description ?? said.summary ?? ""))];
  for (const [kind, { schema }] of Object.entries(said.requestBody?.content ?? {})) parts.push(element("h3", {}, `Body, ${kind}`), fieldsTable(schema, "needed"));
  const answers = Object.entries(said.responses ?? {}).map(([status, { description }]) =>
    element("tr", {}, element("td", {}, element("code", {}, status)), element("td", {}, ...inline(description))));
  parts.push(element("h3", {}, "Answers"), element("div", { class: "scroll" }, element("table", {}, ...answers)));
  const good = said.responses?.["200"]?.content?.["application/json"]?.schema;
  if (good) parts.push(element("h3", {}, "Keys of a good answer"), fieldsTable(good), ...itemTables(good));
  return element("section", {}, ...parts);
}

const api = await (await fetch("openapi.json")).json();
byId("about").append(...inline(api.info.description));
byId("shell").textContent = SHELL();
byId("python").textContent = PYTHON();
for (const [path, methods] of Object.entries(api.paths)) {
  for (const method of METHODS) if (methods[method]) byId("operations").append(operation(method, path, methods[method]));
}
