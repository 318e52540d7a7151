"use strict";

const byId = (id) => document.getElementById(id);
const RAMP = ["#a50026", "#d73027", "#f46d43", "#f0a830", "#9ccb4f", "#1a9850"];
const UNKNOWN = "#c3cad1";
const QUEUE = "#3b0f4f";
const LAMPS = { G: "#12a150", g: "#12a150", y: "#f5b400", Y: "#f5b400", u: "#f5b400", r: "#d2261c", R: "#d2261c" };
const HEARD_EVERY_S = { loops: 5, roadside: 5, v2x: 5, signals: 5, weather: 60 };  // others speak when there is something
const DECISIONS_SHOWN = 40, LATENCIES_SHOWN = 120;

let words = {}, language = "en";
let network = null, state = null, connected = false;
let view = { scale: 1, x: 0, y: 0 };  // pixels per metre, local metres at the centre
let latencies = [], drawQueued = false, hovered = -1, pointer = null, moved = false;

// ---- words -----------------------------------------------------------------------------------------------------

function t(key, values = {}) {
  const text = words[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

async function setLanguage(name) {
  const answer = await fetch(`/page/${name}.json`);
  words = await answer.json();
  language = name;
  localStorage.setItem("language", name);
  document.documentElement.lang = name;
  for (const node of document.querySelectorAll("[data-text]")) node.textContent = t(node.dataset.text);
  for (const node of document.querySelectorAll("[data-label]")) {
    node.setAttribute("aria-label", t(node.dataset.label));
    node.title = node.id === "map" ? "" : t(node.dataset.label);
  }
  for (const node of document.querySelectorAll("[data-language]")) {
    node.setAttribute("aria-pressed", String(node.dataset.language === name));
  }
  showPanel();
  showNotice();
}

// ---- map -------------------------------------------------------------------------------------------------------

const map = byId("map");
const pen = map.getContext("2d");

function fit(show = queueDraw) {
  if (!network) return;
  moved = false;
  const [x0, y0, x1, y1] = network.bounds_m;
  view.scale = 0.94 * Math.min(map.clientWidth / Math.max(x1 - x0, 1), map.clientHeight / Math.max(y1 - y0, 1));
  view.x = (x0 + x1) / 2;
  view.y = (y0 + y1) / 2;
  show();
}

const toX = (x) => map.clientWidth / 2 + (x - view.x) * view.scale;
const toY = (y) => map.clientHeight / 2 - (y - view.y) * view.scale;

function queueDraw() {
  if (drawQueued) return;
  drawQueued = true;
  requestAnimationFrame(() => { drawQueued = false; draw(); });
}

function trace(xy) {
  pen.beginPath();
  pen.moveTo(toX(xy[0]), toY(xy[1]));
  for (let i = 2; i < xy.length; i += 2) pen.lineTo(toX(xy[i]), toY(xy[i + 1]));
}

function rampColour(share) {
  const at = Math.max(0, Math.min(1, share)) * (RAMP.length - 1);
  return RAMP[Math.round(at)];
}

function edgeWidth(edge) {
  return Math.max(1.6, Math.min(edge.lanes * 3.2 * view.scale, 26)) * (hoveredIs(edge) ? 1.5 : 1);
}

function hoveredIs(edge) {
  return hovered >= 0 && network.edges[hovered] === edge;
}

function drawEdges() {
  const live = state?.edges;
  pen.lineCap = "butt";
  pen.lineJoin = "round";
  network.edges.forEach((edge, e) => {
    const speed = live ? live.speed_dmps[e] : -1;
    pen.strokeStyle = speed < 0 || edge.lanes === 0 ? UNKNOWN : rampColour(speed / 10 / edge.limit_mps);
    pen.globalAlpha = speed >= 0 && !live.seen[e] ? 0.38 : 1;
    pen.lineWidth = edge.lanes === 0 ? 1 : edgeWidth(edge);
    trace(edge.xy);
    pen.stroke();
  });
  pen.globalAlpha = 1;
}

function tail(xy, metres) {
  const out = [xy[xy.length - 2], xy[xy.length - 1]];
  for (let i = xy.length - 4; i >= 0 && metres > 0; i -= 2) {
    const dx = xy[i] - out[0], dy = xy[i + 1] - out[1], length = Math.hypot(dx, dy);
    const share = length > 0 ? Math.min(1, metres / length) : 0;
    out.unshift(out[0] + dx * share, out[1] + dy * share);
    metres -= length;
  }
  return out;
}

function drawQueues() {
  if (!state?.edges) return;
  pen.strokeStyle = QUEUE;
  network.edges.forEach((edge, e) => {
    const metres = state.edges.queue_m[e];
    if (metres < 5 || edge.lanes === 0) return;
    pen.lineWidth = Math.max(2, edgeWidth(edge) * 0.45);
    trace(tail(edge.xy, metres));
    pen.stroke();
  });
}

function drawLamps() {
  if (!state?.lamps) return;
  const long = Math.max(2.5, 2.2 * view.scale);
  for (const line of network.stop_lines) {
    const lamps = state.lamps[line.signal];
    const width = Math.max(3, line.width_m * view.scale * 0.92), part = width / line.links.length;
    pen.save();
    pen.translate(toX(line.x), toY(line.y));
    pen.rotate(-line.heading_rad);
    line.links.forEach((link, i) => {
      pen.fillStyle = lamps ? LAMPS[lamps[link]] ?? UNKNOWN : UNKNOWN;
      pen.fillRect(-long, -width / 2 + i * part, long, part);
    });
    pen.restore();
  }
}

function draw() {
  const ratio = window.devicePixelRatio || 1;
  const width = Math.round(map.clientWidth * ratio), height = Math.round(map.clientHeight * ratio);
  if (map.width !== width || map.height !== height) [map.width, map.height] = [width, height];
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, map.clientWidth, map.clientHeight);
  if (!network) return;
  drawEdges();
  drawQueues();
  drawLamps();
}

function zoom(factor, px = map.clientWidth / 2, py = map.clientHeight / 2) {
  moved = true;
  const dx = (px - map.clientWidth / 2) / view.scale, dy = (map.clientHeight / 2 - py) / view.scale;
  view.scale = Math.max(0.01, Math.min(20, view.scale * factor));
  view.x += dx - (px - map.clientWidth / 2) / view.scale;
  view.y += dy - (map.clientHeight / 2 - py) / view.scale;
  queueDraw();
}

function nearestEdge(px, py) {
  let best = -1, least = 8;
  network.edges.forEach((edge, e) => {
    for (let i = 0; i + 3 < edge.xy.length; i += 2) {
      const ax = toX(edge.xy[i]), ay = toY(edge.xy[i + 1]);
      const dx = toX(edge.xy[i + 2]) - ax, dy = toY(edge.xy[i + 3]) - ay;
      const along = Math.max(0, Math.min(1, ((px - ax) * dx + (py - ay) * dy) / (dx * dx + dy * dy || 1)));
      const away = Math.hypot(px - ax - along * dx, py - ay - along * dy);
      if (away < least) [best, least] = [e, away];
    }
  });
  return best;
}

function showTip(px, py) {
  const tip = byId("tip");
  tip.hidden = hovered < 0;
  if (hovered < 0) return;
  const edge = network.edges[hovered], live = state?.edges, speed = live ? live.speed_dmps[hovered] : -1;
  const lines = [speed < 0 ? t("tip.unknown") : t("tip.speed", { speed: Math.round(speed * 0.36) })];
  if (speed >= 0 && !live.seen[hovered]) lines[0] += ` (${t("tip.estimate")})`;
  lines.push(t("tip.limit", { limit: Math.round(edge.limit_mps * 3.6) }));
  if (live && live.queue_m[hovered] >= 5) lines.push(t("tip.queue", { metres: live.queue_m[hovered] }));
  tip.replaceChildren(element("b", edge.name || edge.id), ...lines.map((line) => element("div", line)));
  tip.style.left = `${Math.min(px + 14, map.clientWidth - 200)}px`;
  tip.style.top = `${Math.min(py + 14, map.clientHeight - 90)}px`;
}

map.addEventListener("wheel", (event) => {
  event.preventDefault();
  zoom(Math.exp(-event.deltaY * 0.0015), event.offsetX, event.offsetY);
}, { passive: false });
map.addEventListener("pointerdown", (event) => {
  pointer = { x: event.clientX, y: event.clientY };
  map.setPointerCapture(event.pointerId);
});
map.addEventListener("pointerup", () => { pointer = null; });
map.addEventListener("pointerleave", () => { hovered = -1; byId("tip").hidden = true; queueDraw(); });
map.addEventListener("pointermove", (event) => {
  if (pointer) {
    moved = true;
    view.x -= (event.clientX - pointer.x) / view.scale;
    view.y += (event.clientY - pointer.y) / view.scale;
    pointer = { x: event.clientX, y: event.clientY };
    queueDraw();
  } else if (network) {
    const before = hovered;
    hovered = nearestEdge(event.offsetX, event.offsetY);
    showTip(event.offsetX, event.offsetY);
    if (hovered !== before) queueDraw();
  }
});
map.addEventListener("keydown", (event) => {
  const step = 60 / view.scale;
  if (event.key === "+") zoom(1.3);
  else if (event.key === "-") zoom(1 / 1.3);
  else if (event.key === "0") fit();
  else if (event.key.startsWith("Arrow")) {
    moved = true;
    view.x += { ArrowLeft: -step, ArrowRight: step }[event.key] ?? 0;
    view.y += { ArrowUp: step, ArrowDown: -step }[event.key] ?? 0;
    queueDraw();
  }
});
byId("zoom-in").addEventListener("click", () => zoom(1.4));
byId("zoom-out").addEventListener("click", () => zoom(1 / 1.4));
byId("zoom-fit").addEventListener("click", () => fit());
new ResizeObserver(() => { if (moved) draw(); else fit(draw); }).observe(map);  // before the paint: no stretched picture

// ---- panel -----------------------------------------------------------------------------------------------------

function element(tag, text = "", className = "") {
  const node = document.createElement(tag);
  node.textContent = text;
  if (className) node.className = className;
  return node;
}

const SERVING = ["live", "shadow"]; // what a service says of itself in place of progress
const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString(language === "zh" ? "zh-CN" : "en-GB");
const number = (value) => (value === undefined ? "–" : value.toLocaleString(language === "zh" ? "zh-CN" : "en-GB"));

function showFigures() {
  const date = state.now_s && new Date(state.now_s * 1000).toLocaleDateString(language === "zh" ? "zh-CN" : "en-GB");
  byId("clock").textContent = state.now_s ? `${date} ${clock(state.now_s)}` : "–";
  byId("cycle").textContent = number(state.cycle);
  byId("latency").textContent = state.cycle_ms === undefined ? "–" : `${number(Math.round(state.cycle_ms))} ms`;
  byId("vehicles").textContent = number(state.vehicles);
  byId("coverage").textContent = state.coverage === undefined ? "–" : `${Math.round(state.coverage * 100)} %`;
  byId("progress").textContent = SERVING.includes(state.progress) ? t(`serving.${state.progress}`) : state.progress ?? "";
  byId("progress").hidden = !state.progress;
  byId("stages").replaceChildren(...(state.stages ?? []).map((stage) => {
    const name = t(`stage.${stage.name}`);
    const text = `${name} ${stage.ms < 10 ? stage.ms.toFixed(1) : Math.round(stage.ms)} ms`;
    return element("span", stage.fallback ? `${text} → ${t(`fallback.${stage.name}`)}` : text, stage.fallback ? "fallback" : "");
  }));
}

function drawSpark() {
  const canvas = byId("spark"), brush = canvas.getContext("2d"), { width, height } = canvas;
  brush.clearRect(0, 0, width, height);
  if (!latencies.length) return;
  const top = Math.max(...latencies, 1), step = width / LATENCIES_SHOWN;
  latencies.forEach((ms, i) => {
    const tall = Math.max(1, (ms / top) * (height - 2));
    brush.fillStyle = state.deadline_ms && ms > state.deadline_ms ? "#c8281e" : "#8aa0b5";
    brush.fillRect(width - (latencies.length - i) * step, height - tall, Math.max(1, step - 1), tall);
  });
}

function showParts() {
  const rows = [];
  const add = (key, text, mark) => {
    const value = element("dd");
    if (mark) value.append(element("span", "", `dot ${mark}`));
    value.append(text);
    rows.push(element("dt", t(key)), value);
  };
  const marks = { alive: "good", starting: "warn", down: "bad", off: "" };
  for (const [key, status] of [["parts.mirror", state.mirror], ["parts.street", state.street]]) {
    add(key, status ? t(`status.${status}`) : "–", marks[status]);
  }
  const producers = state.forecast ?? [];
  add("parts.forecast", producers.length ? producers.map(producerText).join(", ") : "–");
  add("parts.advised", number(state.advised));
  byId("parts").replaceChildren(...rows);
}

// "model NAME" names an artefact; everything else has a text of its own.
function producerText(producer) {
  const [kind, ...name] = producer.split(" ");
  return [t(`producer.${kind}`), ...name].join(" ");
}

function duration(seconds) {
  if (seconds === null) return t("feeds.never");
  return seconds < 120 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`;
}

function showFeeds() {
  byId("feeds").replaceChildren(...(state.feeds ?? []).map((feed) => {
    const silent = feed.silent_s, every = HEARD_EVERY_S[feed.feed] ?? Infinity;
    const mark = silent === null || feed.accepted === 0 ? "" : silent > 12 * every ? "bad" : silent > 3 * every ? "warn" : "good";
    const row = element("tr"), first = element("td");
    first.append(element("span", "", `dot ${mark}`));
    row.append(
      first,
      element("td", t(`feed.${feed.feed}`)),
      element("td", number(feed.accepted)),
      element("td", number(feed.quarantined)),
      element("td", duration(silent)),
    );
    return row;
  }));
  byId("unhealthy").replaceChildren(...(state.unhealthy ?? []).map((text) => element("li", text)));
}

function showDecisions() {
  const decisions = (state.decisions ?? []).slice(0, DECISIONS_SHOWN);
  byId("decisions").replaceChildren(...decisions.map((decision) => {
    const item = element("li"), head = element("div", "", "head");
    head.append(element("b", decision.junction), element("span", clock(decision.at_s)));
    item.append(head, element("div", decision.reason, "why"));
    item.title = `${decision.source} · ${decision.version}`;
    return item;
  }));
  if (!decisions.length) byId("decisions").replaceChildren(element("li", t("decisions.none"), "empty"));
}

function showPanel() {
  if (!state) return;
  showFigures();
  drawSpark();
  showParts();
  showFeeds();
  showDecisions();
}

function showNotice() {
  const lost = !connected && state !== null;
  byId("notice").hidden = connected && state !== null;
  byId("notice").textContent = t(lost ? "notice.lost" : "notice.connecting");
}

// ---- live ------------------------------------------------------------------------------------------------------

function receive(snapshot) {
  if (!Object.keys(snapshot).length) return;
  state = snapshot;
  if (state.cycle_ms !== undefined) latencies = [...latencies, state.cycle_ms].slice(-LATENCIES_SHOWN);
  showPanel();
  showNotice();
  queueDraw();
}

function connect() {
  const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`);
  socket.onopen = () => { connected = true; showNotice(); };
  socket.onmessage = (event) => receive(JSON.parse(event.data));
  socket.onclose = () => {
    connected = false;
    showNotice();
    setTimeout(connect, 2000);
  };
}

async function start() {
  const preferred = localStorage.getItem("language") ?? (navigator.language.startsWith("zh") ? "zh" : "en");
  for (const button of document.querySelectorAll("[data-language]")) {
    button.addEventListener("click", () => setLanguage(button.dataset.language));
  }
  await setLanguage(preferred);
  network = await (await fetch("/api/network")).json();
  byId("city").textContent = network.city;
  document.title = `${network.city} · citytwin`;
  fit();
  connect();
}

start();
