// The live page: what the server pushes, what is asked for while somebody looks, and the actions.

import { Charts } from "/dashboard/charts.js";
import { bytes, count, duration, milliseconds, text } from "/dashboard/format.js";
import { Table } from "/dashboard/tables.js";

const element = (id) => document.getElementById(id);

// Lines of the log that are kept, and ms between two questions for a table: never more often than a
// tenth of the server's time.
const LINES = 500;
const PAUSE = 3000;

const server = { actionToken: "", charts: null };

// Actions

function button(label, act, className = "") {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = label;
  made.className = className;
  made.addEventListener("click", act);
  return made;
}

function confirmed(question, amount) {
  const dialog = element("confirm");
  element("question").textContent = question;
  element("amount-label").hidden = amount === undefined;
  element("amount").disabled = amount === undefined;
  if (amount !== undefined) element("amount").value = amount;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

function tell(sentence) {
  const told = element("told");
  told.textContent = sentence;
  told.hidden = false;
  clearTimeout(tell.timer);
  tell.timer = setTimeout(() => { told.hidden = true; }, 8000);
}

async function act(action, fields, done) {
  try {
    const answer = await fetch(`/dashboard/actions/${action}`, {
      method: "POST", body: new URLSearchParams(fields),
      headers: { "x-hornbeam-action": server.actionToken },
    });
    const said = await answer.json();
    tell(answer.ok ? done : said.error);
  } catch (error) {
    tell(`no answer: ${error.message}`);
  }
}

async function kick(row) {
  if (await confirmed(`Close ${row.kind} ${row.id} of ${row.peer} at ${row.path}?`)) {
    await act("kick", { id: row.id }, `${row.id} is closed`);
    tables.sockets.ask();
  }
}

function pair(...buttons) {
  const cell = document.createElement("span");
  cell.className = "buttons";
  cell.append(...buttons);
  return cell;
}

// The messages of one connection, as long as its panel is open.

const tracing = { feed: null, row: null };

function trace(row) {
  stopTrace();
  tracing.row = row;
  const bodies = element("trace-bodies").checked;
  element("trace-panel").hidden = false;
  element("trace-title").textContent = `Trace of ${row.id}, ${text(row.peer)} at ${text(row.path)}`;
  element("trace").replaceChildren();
  tracing.feed = new EventSource(`/dashboard/trace/${row.id}?bodies=${bodies}`);
  tracing.feed.addEventListener("note", ({ data }) => showNote(JSON.parse(data)));
  tracing.feed.addEventListener("ended", ({ data }) => {
    addLine(element("trace"), Date.now(), `the trace is over: ${[JSON.parse(data).why].flat().join(" ")}`);
    stopTrace();
  });
  tracing.feed.addEventListener("error", stopTrace);
  element("trace-panel").scrollIntoView({ block: "nearest" });
}

function stopTrace() {
  tracing.feed?.close();
  tracing.feed = null;
}

function showNote({ at, direction, type, size, body, dropped }) {
  if (dropped > 0) addLine(element("trace"), at / 1000, `${dropped} more`, "warn");
  addLine(element("trace"), at / 1000, `${direction === "in" ? "←" : "→"} ${type} ${bytes(size)} ${body}`);
}

element("trace-close").addEventListener("click", () => {
  stopTrace();
  element("trace-panel").hidden = true;
});
element("trace-bodies").addEventListener("change", () => trace(tracing.row));

async function reload(path) {
  if (await confirmed(`Load the code of the app at ${path} anew?`)) {
    tell("loading …");
    await act("reload", { path }, "the code was loaded anew");
  }
}

async function setWorkers(path, workers) {
  if (await confirmed(`How many workers for the app at ${path}?`, workers)) {
    await act("workers", { path, workers: element("amount").value }, "the workers are started or ended");
  }
}

// What the server pushes

const STATES = { ready: "good", starting: "warn", retiring: "warn", draining: "warn" };

const workers = new Table(element("workers"), [
  { key: "name", title: "Worker" },
  { key: "state", title: "State", className: ({ state, slow }) => (slow ? "bad" : STATES[state]) },
  { key: "os_pid", title: "Pid", format: text, isNumber: true },
  { key: "rss", title: "Memory", format: bytes, isNumber: true },
  { key: "latency", title: "Latency", format: milliseconds, isNumber: true },
  { key: "streams", title: "Open", format: count, isNumber: true },
  { key: "requests", title: "Requests", format: count, isNumber: true },
  { key: "messages", title: "Messages", format: count, isNumber: true },
  { key: "seconds", title: "Age", format: duration, isNumber: true },
  { key: "restarts", title: "Restarts", format: count, isNumber: true,
    className: ({ restarts }) => (restarts > 0 ? "warn" : "") },
  { key: "last_end", title: "Last end", format: (end) => (end === "none" ? "–" : text(end)),
    isWide: true },
], { key: "os_pid", sort: "name", isDescending: false, label: "Workers" });

const FIGURES = [
  ["Requests/s", "requests", count], ["p95", "p95", milliseconds], ["WebSockets", "websockets", count],
  ["Event streams", "event_streams", count], ["Connections", "connections", count],
  ["Waiting", "waiting", count], ["Node", "node_memory", bytes], ["Workers", "worker_memory", bytes],
];
const figures = FIGURES.map(([title, column, format]) => {
  const [box, name, value] = ["div", "dt", "dd"].map((tag) => document.createElement(tag));
  name.textContent = title;
  value.textContent = "–";
  box.append(name, value);
  element("now").append(box);
  return { value, column, format };
});

function showNow(now) {
  const latest = server.charts.latest();
  for (const { value, column, format } of figures) value.textContent = format(latest[column]);
  workers.show(now.workers);
  showApps(now);
  showLosses(now.losses);
  element("state-count").textContent = `${count(now.quota.rows)} rows, ${bytes(now.quota.bytes)} in all`;
}

// Made anew only when it is another one: a button must not go while it is pressed.
function showApps({ apps, workers: all }) {
  const bar = element("apps");
  const wanted = JSON.stringify(apps);
  const numbers = (path) => all.filter(({ pool }) => pool === path).length;
  if (bar.dataset.shown !== wanted) {
    bar.dataset.shown = wanted;
    bar.replaceChildren(...Object.entries(apps).map(([path, app]) => {
      const line = document.createElement("span");
      line.className = "bar";
      line.append(`${path}: ${app}`, button("Reload", () => reload(path)),
        button("Set workers", () => setWorkers(path, line.numbers)));
      line.path = path;
      return line;
    }));
  }
  for (const line of bar.children) line.numbers = numbers(line.path);
}

function showLosses(losses) {
  const known = Object.entries(losses).map(([why, many]) => `${why} ${count(many)}`);
  element("losses").textContent = known.length ? `Lost: ${known.join(", ")}` : "Nothing was lost.";
}

const LEVELS = { warning: "warn", error: "bad", critical: "bad", alert: "bad", emergency: "bad" };

function showLines(lines) {
  for (const { at, level, text: said } of lines) {
    addLine(element("log"), at * 1000, `${level}: ${said.trimEnd()}`, LEVELS[level]);
  }
}

// At the end, which stays in sight if it is.
function addLine(list, at, said, className = "") {
  const isAtEnd = list.scrollTop + list.clientHeight >= list.scrollHeight - 20;
  const [line, time] = ["li", "time"].map((tag) => document.createElement(tag));
  const when = new Date(at);
  time.dateTime = when.toISOString();
  time.textContent = when.toLocaleTimeString();
  line.className = className;
  line.append(time, said);
  list.append(line);
  while (list.childElementCount > LINES) list.firstElementChild.remove();
  if (isAtEnd) list.scrollTop = list.scrollHeight;
}

function connected(isLive, sentence) {
  element("connected").textContent = sentence;
  element("connected").classList.toggle("live", isLive);
}

function hear() {
  const feed = new EventSource("/dashboard/feed");
  const on = (name, hear) => feed.addEventListener(name, (event) => hear(JSON.parse(event.data)));
  on("hello", (hello) => {
    server.actionToken = hello.action_token;
    element("version").textContent = `${hello.version}, OTP ${hello.otp}, pid ${hello.os_pid}`;
    element("log").replaceChildren();
    if (server.charts) server.charts.restart(hello);
    else server.charts = new Charts(element("charts"), hello);
    server.charts.show(Number(element("span").value));
    connected(true, "live");
  });
  on("now", ({ row, server: now }) => {
    server.charts.add(row);
    showNow(now);
  });
  on("log", showLines);
  feed.addEventListener("error", () => {
    connected(false, "no connection; trying again … (a server that was started anew has a new link)");
    feed.close();
    setTimeout(hear, PAUSE);
  });
}

// What is asked for

class Asked {
  constructor(name, query, show) {
    this.name = name;
    this.query = query;
    this.show = show;
    this.ask();
  }

  async ask() {
    clearTimeout(this.timer);
    const began = performance.now();
    const asking = this.asking = Symbol("asking");
    try {
      if (!document.hidden) await this.#answer(asking);
    } catch {
      // The feed says that there is no server.
    }
    if (this.asking !== asking) return;
    const pause = Math.max(PAUSE, 10 * (performance.now() - began));
    this.timer = setTimeout(() => this.ask(), pause);
  }

  async #answer(asking) {
    const answer = await fetch(`/dashboard/tables/${this.name}?${new URLSearchParams(this.query())}`);
    if (answer.ok && this.asking === asking) this.show(await answer.json());
  }
}

const sockets = new Table(element("sockets"), [
  { key: "id", title: "Id", isNumber: true },
  { key: "kind", title: "Kind", format: (kind) => text(kind).replace("_", " ") },
  { key: "peer", title: "Peer", format: text },
  { key: "path", title: "Path", format: text, isWide: true },
  { key: "worker", title: "Worker", format: text },
  { key: "seconds", title: "Age", format: duration, isNumber: true },
  { key: "messages_in", title: "In", format: count, isNumber: true },
  { key: "messages_out", title: "Out", format: count, isNumber: true },
  { key: "bytes_out", title: "Sent", format: bytes, isNumber: true },
  { key: "queue", title: "Waiting", format: count, isNumber: true,
    className: ({ queue }) => (queue > 1000 ? "bad" : "") },
  { key: "topics", title: "Topics", format: count, isNumber: true },
  { key: null, title: "", cell: (row) => pair(button("Trace", () => trace(row())),
    button("Kick", () => kick(row()), "danger")) },
], { key: "id", sort: "seconds", label: "Sockets" });

const topics = new Table(element("topics"), [
  { key: "topic", title: "Topic", isWide: true },
  { key: "subscribers", title: "Subscribers", format: count, isNumber: true },
  { key: "forwarding", title: "Straight to clients", format: count, isNumber: true },
  { key: "lost", title: "Lost", format: count, isNumber: true,
    className: ({ lost }) => (lost ? "bad" : "") },
], { key: "topic", sort: "subscribers", label: "Topics" });

const state = new Table(element("state"), [
  { key: "name", title: "Keys", cell: (row) => stateName(row()) },
  { key: "rows", title: "Rows", format: count, isNumber: true },
  { key: "bytes", title: "Size", format: bytes, isNumber: true },
], { key: "name", sort: "bytes", label: "State by prefix" });

function stateName({ name, prefix }) {
  if (!prefix) return document.createTextNode(name);
  return button(name, () => {
    prefixes.push(prefix);
    tables.state.ask();
  }, "link");
}

const prefixes = [""];

function showState({ is_all: isAll, rows }) {
  state.show(rows);
  element("state-path").replaceChildren(...prefixes.map((prefix, at) => button(prefix || "all keys", () => {
    prefixes.length = at + 1;
    tables.state.ask();
  }, "link")), isAll ? "" : "the first 20 000 keys");
}

const tables = {
  sockets: new Asked("sockets", () => ({ by: element("sockets-by").value }), ({ open, busy, connections }) => {
    const shown = connections.length < open ? `${connections.length} of ${open}` : `${open}`;
    element("sockets-count").textContent = busy > 0 ? `${shown}, ${busy} too busy to answer` : shown;
    sockets.show(connections.map((row) => (row.state === "busy" ? { ...row, queue: row.mailbox } : row)));
  }),
  topics: new Asked("topics", () => ({}), ({ topics: all, rows }) => {
    element("topics-count").textContent = rows.length < all ? `${rows.length} of ${all}` : `${all}`;
    topics.show(rows);
  }),
  state: new Asked("state", () => ({ prefix: prefixes.at(-1) }), showState),
};

element("sockets-by").addEventListener("change", () => tables.sockets.ask());
element("span").addEventListener("change", () => server.charts?.show(Number(element("span").value)));
hear();
