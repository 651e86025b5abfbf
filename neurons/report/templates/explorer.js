"use strict";
// The page's data are factors: tuning [M, Y] and readout [M, 100]. A map is their product; a basket's map is a sum.
// The first neuron has a small block of its own, so that it is on the screen before the others are unpacked.

const about = JSON.parse(document.getElementById("about").textContent);
const { count: M, start_years: startYears } = about;
const Y = startYears.length;
const YEARS = Array.from({ length: 100 }, (_, year) => year);
const CALLS = ["neither", "boosting", "suppressing"];
const element = (id) => document.getElementById(id);
const pages = new Map(Object.entries(about.pages));
const basket = new Set();
let data;
let chosen = 0;

// --- data ---------------------------------------------------------------------------------------

async function unpack(id, count) {
  const text = atob(element(id).textContent.trim());
  element(id).remove();
  const packed = new Uint8Array(text.length);
  for (let k = 0; k < text.length; k++) packed[k] = text.charCodeAt(k);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const bytes = await new Response(stream).arrayBuffer();
  let at = 0;
  const take = (Kind, length) => {
    const column = new Kind(bytes, at, length);
    at += column.byteLength;
    return column;
  };
  const found = { tuningSize: take(Float32Array, count), readoutSize: take(Float32Array, count) };
  for (const name of about.scores) found[name] = take(Float32Array, count);
  for (const name of ["layer", "index", "call"]) found[name] = take(Uint16Array, count);
  for (const [name, length] of [["tuning", Y], ["readout", 100]]) {
    found[name] = { length, low: take(Uint8Array, count * length), high: take(Uint8Array, count * length) };
  }
  return found;
}

const halves = Float32Array.from({ length: 65536 }, (_, bits) => {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  return exponent ? sign * 2 ** (exponent - 15) * (1 + fraction / 1024) : (sign * 2 ** -14 * fraction) / 1024;
});

function factorOf({ length, low, high }, size, i) {
  const at = i * length;
  return Float32Array.from({ length }, (_, k) => halves[low[at + k] | (high[at + k] << 8)] * size[i]);
}

const tuningOf = (i) => factorOf(data.tuning, data.tuningSize, i);
const readoutOf = (i) => factorOf(data.readout, data.readoutSize, i);
const nameOf = (i) => `L${data.layer[i]}N${data.index[i]}`;

function summedMap(neurons) {
  const map = startYears.map(() => new Float32Array(100));
  for (const i of neurons) {
    const tuning = tuningOf(i);
    const readout = readoutOf(i);
    for (let s = 0; s < Y; s++) {
      for (let y = 0; y < 100; y++) map[s][y] += tuning[s] * readout[y];
    }
  }
  return map;
}

// Mean over y > YY minus mean over y <= YY, averaged over the start years.
function contrastOf(map) {
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  return mean(map.map((effect, s) => mean(effect.slice(startYears[s] + 1)) - mean(effect.slice(0, startYears[s] + 1))));
}

// --- plots --------------------------------------------------------------------------------------

const CENTRED = [[0, "#053061"], [0.1, "#2166ac"], [0.2, "#4393c3"], [0.3, "#92c5de"], [0.4, "#d1e5f0"], [0.5, "#f7f7f7"],
  [0.6, "#fddbc7"], [0.7, "#f4a582"], [0.8, "#d6604d"], [0.9, "#b2182b"], [1, "#67001f"]];
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const CONFIG = { displaylogo: false, displayModeBar: false, responsive: true, plotlyServerURL: "" };
// No zoom, and ticks of our own: Plotly's take half of a redraw.
const axis = (title, more) => ({
  title: { text: title }, zeroline: false, fixedrange: true, gridcolor: colour("--line"), linecolor: colour("--line"), ...more,
});
const years = (title, more) => axis(title, { tickvals: [0, 20, 40, 60, 80], ...more });
const layout = (x, y, more) => ({
  margin: { l: 50, r: 5, t: 10, b: 42 }, height: 330, xaxis: x, yaxis: y, showlegend: false, dragmode: false,
  font: { size: 12, color: colour("--ink") }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", ...more,
});
const dashed = (ends, ink = "black") => ({ type: "line", line: { color: ink, width: 1, dash: "dash" }, ...ends });

function ticks(low, high) {
  const raw = (high - low) / 5;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 2.5, 5, 10].find((times) => times * power >= raw * 0.999);
  const first = Math.ceil(low / step - 1e-9);
  const tickvals = Array.from({ length: Math.floor(high / step + 1e-9) - first + 1 }, (_, k) => (first + k) * step);
  return { tickvals, ticktext: tickvals.map((value) => String(Number(value.toPrecision(6))).replace("-", "−")) };
}

// The y axis of a curve: zero always shows.
function upright(values) {
  const low = Math.min(0, ...values);
  const high = Math.max(0, ...values);
  const room = 0.05 * (high - low) || 1;
  const scale = ticks(low - room, high + room);
  return { "yaxis.range": [low - room, high + room], "yaxis.tickvals": scale.tickvals, "yaxis.ticktext": scale.ticktext };
}

// Draws a plot the first time; later only what changed: `changes` of its trace, `moved` in its layout.
function draw(place, trace, first, changes, moved) {
  const plot = element(place);
  if (!plot.data) Plotly.newPlot(plot, [trace], first, CONFIG);
  const each = Object.entries(changes).map(([name, value]) => [name, [value]]);
  if (moved) Plotly.update(plot, Object.fromEntries(each), moved);
  else Plotly.restyle(plot, Object.fromEntries(each));
}

const MAP = {
  type: "heatmap", x: YEARS, y: startYears, z: startYears.map(() => YEARS), colorscale: CENTRED, showscale: false,
  hovertemplate: "YY %{y}, year %{x}: %{z:.4f} logits<extra></extra>",
};
const ENDS = [startYears[0], startYears[Y - 1]];
const MAP_LAYOUT = layout(
  years("year y", { range: [-0.5, 99.5], constrain: "domain" }),
  years("start year YY", { range: [ENDS[1] + 0.5, ENDS[0] - 0.5], scaleanchor: "x", constrain: "domain" }),
  { shapes: [dashed({ x0: ENDS[0], y0: ENDS[0], x1: ENDS[1], y1: ENDS[1] })] },
);

function drawMap(place, map) {
  let size = 0;
  for (const effect of map) for (const value of effect) size = Math.max(size, Math.abs(value));
  size ||= 1;
  element(`${place}-low`).textContent = digits(-size);
  element(`${place}-high`).textContent = digits(size);
  draw(place, MAP, MAP_LAYOUT, { z: map, zmin: -size, zmax: size });
}

const LOGITS = {
  type: "scatter", mode: "lines", x: YEARS, y: YEARS, fill: "tozeroy", line: { shape: "hvh", width: 1, color: colour("--curve") },
  hovertemplate: "year %{x}: %{y:.4f} logits<extra></extra>",
};
const LOGITS_LAYOUT = layout(years("year y", { range: [-0.5, 99.5] }), axis("effect (logits)"), { height: 280 });

function drawLogits() {
  const year = Number(element("year").value);
  const level = tuningOf(chosen)[startYears.indexOf(year)];
  const effect = readoutOf(chosen).map((value) => value * level);
  const line = dashed({ x0: year + 0.5, x1: year + 0.5, yref: "paper", y0: 0, y1: 1 }, colour("--ink"));
  element("shown-year").textContent = String(year).padStart(2, "0");
  draw("logits", LOGITS, LOGITS_LAYOUT, { y: effect }, { ...upright(effect), shapes: [line] });
}

const TUNING = { type: "scatter", mode: "lines", x: startYears, y: startYears, line: { color: colour("--curve") },
  hovertemplate: "YY %{x}: %{y:.4f}<extra></extra>",
};
const TUNING_LAYOUT = layout(years("start year YY", { range: [ENDS[0] - 0.5, ENDS[1] + 0.5] }), axis("activation a/σ"));

function drawTuning() {
  const curve = tuningOf(chosen);
  draw("tuning", TUNING, TUNING_LAYOUT, { y: curve }, upright(curve));
}

// --- what the person does -----------------------------------------------------------------------

// At most once a frame, however fast a slider moves.
function oncePerFrame(work) {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; work(); });
  };
}

const digits = (value) => (Number.isNaN(value) ? "–" : value.toPrecision(3).replace("-", "−"));

const year2 = (value) => (Number.isNaN(value) ? "–" : String(Math.round(value)).padStart(2, "0"));

function choose(i) {
  chosen = i;
  element("chosen").textContent = nameOf(i);
  element("name").value = nameOf(i);
  element("unknown").textContent = "";
  element("facts").textContent = `${CALLS[data.call[i]]}, rank ${i + 1} of ${M}: share ${digits(data.share[i])}, ` +
    `direct effect ${digits(data.year_specific[i])} logits, static ${digits(data.static[i])}; ` +
    `tuned to ${year2(data.tuning_centre[i])}, readout edge at ${year2(data.readout_edge[i])}`;
  showPage(i);
  drawMap("map", summedMap([i]));
  drawCurves();
}

// A frame after the map, so that no task keeps the page waiting.
const drawCurves = oncePerFrame(() => { drawTuning(); drawLogits(); });

function showPage(i) {
  const page = pages.get(nameOf(i));
  element("page").hidden = !page;
  if (!page) return;
  const link = element("page").querySelector("a");
  link.href = page;
  link.textContent = `The page of ${nameOf(i)}`;
}

function step(by) {
  choose(Math.min(M - 1, Math.max(0, chosen + by)));
  say();
}

function toggle() {
  if (!basket.delete(chosen)) basket.add(chosen);
  showBasket();
  say();
}

// --- the address: #L9N79&sum=L10N3,L8N1 or &first=143 ----------------------------------------------

const isFirst = () => basket.size > 0 && [...basket].every((i) => i < basket.size);

function address() {
  const sum = isFirst() ? `&first=${basket.size}` : basket.size ? `&sum=${[...basket].map(nameOf).join(",")}` : "";
  return `#${nameOf(chosen)}${sum}`;
}

function say() {
  if (location.hash !== address()) history.replaceState(null, "", address());
}

function listenTo(hash) {
  const [name, ...rest] = decodeURIComponent(hash.slice(1)).split("&");
  const found = data.placeOf.get(name.toUpperCase());
  const wanted = new Map(rest.map((part) => part.split("=")));
  basket.clear();
  for (const one of (wanted.get("sum") || "").split(",")) {
    const place = data.placeOf.get(one.trim().toUpperCase());
    if (place !== undefined) basket.add(place);
  }
  for (let i = 0; i < Math.min(M, Number(wanted.get("first")) || 0); i++) basket.add(i);
  showBasket();
  choose(found ?? 0);
  if (name && found === undefined) element("unknown").textContent = `no neuron ${name} in the cached layers`;
}

function find() {
  const wanted = element("name").value.trim().toUpperCase();
  const found = data.placeOf.get(wanted);
  if (found !== undefined) { choose(found); say(); }
  else element("unknown").textContent = wanted ? `no neuron ${wanted} in the cached layers` : "";
}

function showBasket() {
  const shown = [...basket].slice(0, 60).map((i) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = `${nameOf(i)} ×`;
    button.setAttribute("aria-label", `remove ${nameOf(i)} from the sum`);
    button.addEventListener("click", () => { basket.delete(i); showBasket(); say(); });
    return button;
  });
  const more = basket.size > shown.length ? ` and ${basket.size - shown.length} more` : "";
  element("basket").replaceChildren(...shown, more);
  const map = summedMap(basket);
  if (isFirst() || !basket.size) element("first").value = basket.size;
  element("shown-first").textContent = element("first").value;
  element("sum").textContent = `${basket.size} neurons, summed contrast ${digits(contrastOf(map))} logits`;
  drawMap("basket-map", map);
}

function takeFirst() {
  const wanted = Number(element("first").value);
  basket.clear();
  for (let i = 0; i < wanted; i++) basket.add(i);
  showBasket();
  say();
}

function listNeurons() {
  const number = (title, column) => ({
    title, data: null, type: "num",
    render: (i, kind) => (kind === "display" ? digits(column[i]) : column[i]),
  });
  const safe = DataTable.render.text().display;
  const text = (title, of) => ({
    title, data: null, className: "text",
    render: (i, kind) => (kind === "display" ? safe(of(i)) : of(i)),
  });
  const layers = (i) => data.layer[i];
  const calls = (i) => CALLS[data.call[i]];
  const labels = Object.entries(about.labels).map(([title, values]) => [title, (i) => values[i]]);
  const table = new DataTable("#list", {
    data: Array.from({ length: M }, (_, i) => i),
    deferRender: true,
    autoWidth: false,
    order: [],
    pageLength: 10,
    language: { search: "find", lengthMenu: "rows _MENU_" },
    columns: [
      { title: "rank", data: null, type: "num", render: (i) => i + 1 },
      {
        title: "neuron", data: null, className: "text",
        render: (i) => `<button type="button" class="name" value="${i}">${nameOf(i)}</button>`,
      },
      { title: "layer", data: null, type: "num", render: layers },
      text("call", calls),
      number("share", data.share),
      number("written share", data.written_share),
      number("direct effect", data.year_specific),
      number("static", data.static),
      number("tuning centre", data.tuning_centre),
      number("readout edge", data.readout_edge),
      ...labels.map(([title, of]) => text(title, of)),
    ],
  });
  table.table().body().addEventListener("click", (event) => {
    const button = event.target.closest("button.name");
    if (!button) return;
    choose(Number(button.value));
    say();
  });
  addFilter(table, 2, layers);
  addFilter(table, 3, calls);
  addBounds(table, "share", data.share);
  addBounds(table, "tuning centre", data.tuning_centre);
  addBounds(table, "readout edge", data.readout_edge);
  labels.forEach(([, of], k) => addFilter(table, 10 + k, of));
}

function addFilter(table, place, of) {
  const column = table.column(place);
  const menu = document.createElement("select");
  const values = [...new Set(Array.from({ length: M }, (_, i) => String(of(i))))];
  values.sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
  menu.append(new Option("all", ""), ...values.filter(Boolean).map((value) => new Option(value, value)));
  menu.addEventListener("change", () => {
    column.search(menu.value ? (_, i) => String(of(i)) === menu.value : "").draw();
  });
  const label = document.createElement("label");
  label.className = "filter";
  label.append(`${column.title()} `, menu);
  table.table().container().querySelector(".dt-search").before(label);
}

// Two fields that keep the neurons whose value lies between them.
function addBounds(table, title, column) {
  const ends = ["at least", "at most"].map((words) => {
    const input = document.createElement("input");
    Object.assign(input, { type: "number", step: "any", placeholder: words });
    input.setAttribute("aria-label", `${title} ${words}`);
    input.addEventListener("input", () => table.draw());
    return input;
  });
  table.search.fixed(title, (_, i) => {
    const [low, high] = ends.map((input) => input.value);
    return (low === "" || column[i] >= Number(low)) && (high === "" || column[i] <= Number(high));
  });
  const group = document.createElement("span");
  group.className = "filter";
  group.append(`${title} `, ...ends);
  element("bounds").append(group);
}

function moveYear() {
  const wanted = Number(element("year").value);
  const nearest = startYears.reduce((best, year) => (Math.abs(year - wanted) < Math.abs(best - wanted) ? year : best));
  element("year").value = nearest;
  drawLogits();
}

const KEYS = new Map([
  ["/", () => { element("name").focus(); element("name").select(); }],
  ["j", () => step(1)],
  ["k", () => step(-1)],
  ["a", toggle],
  [",", () => stepYear(-1)],
  [".", () => stepYear(1)],
]);

function stepYear(by) {
  const place = startYears.indexOf(Number(element("year").value)) + by;
  element("year").value = startYears[Math.min(Y - 1, Math.max(0, place))];
  drawLogits();
}

function press(event) {
  const inField = event.target.matches("input, select, textarea") && event.target.type !== "range";
  const act = KEYS.get(event.key);
  if (!act || inField || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  act();
}

function listen() {
  element("first").max = Math.min(M, 200);
  element("name").addEventListener("change", find);
  element("add").addEventListener("click", toggle);
  element("previous").addEventListener("click", () => step(-1));
  element("next").addEventListener("click", () => step(1));
  window.addEventListener("hashchange", () => listenTo(location.hash));
  document.addEventListener("keydown", press);
  element("clear").addEventListener("click", () => { element("first").value = 0; takeFirst(); });
  element("first").addEventListener("input", oncePerFrame(takeFirst));
  for (const id of ["name", "previous", "next", "add", "clear", "first"]) element(id).disabled = false;
}

const painted = () => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve, 0)));

async function start() {
  data = await unpack("first-data", 1);
  Object.assign(element("year"), { min: startYears[0], max: startYears[Y - 1], value: startYears[Y >> 1] });
  element("year").addEventListener("input", oncePerFrame(moveYear));
  if (!location.hash) choose(0);
  await painted();
  document.body.dataset.first = Math.round(performance.now());
  data = await unpack("data", M);
  data.placeOf = new Map(Array.from({ length: M }, (_, i) => [nameOf(i), i]));
  listen();
  if (location.hash) listenTo(location.hash);
  else showBasket();
  await painted();
  listNeurons();
  document.body.dataset.ready = Math.round(performance.now());
}

start();
