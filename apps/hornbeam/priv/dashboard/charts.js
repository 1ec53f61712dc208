// The curves: one for each group of columns, drawn by uPlot (a script of its own, hence global).

import { bytes, count, milliseconds } from "/dashboard/format.js";

const CHARTS = [
  ["Requests a second", count, [["requests", "answered"], ["errors", "5xx", "third"]]],
  ["How long requests took", milliseconds, [["p50", "half of them"], ["p95", "95 of 100"]]],
  ["Messages a second", count, [["messages_in", "of clients"], ["messages_out", "to clients"]]],
  ["Bytes a second", bytes, [["bytes_in", "of clients"], ["bytes_out", "to clients"]]],
  ["Open", count, [["websockets", "WebSockets"], ["event_streams", "event streams"],
    ["waiting", "waiting requests", "third"]]],
  ["Topics a second", count, [["published", "published"], ["losses", "lost", "third"]]],
  ["Memory", bytes, [["node_memory", "node"], ["worker_memory", "workers"]]],
  ["Slowest worker's event loop", milliseconds, [["lag", "answers after"]]],
];
const PLACES = ["first", "second", "third"];
const COLORS = { first: "--green", second: "--blue", third: "--red" };
const HEIGHT = 150;

export class Charts {
  constructor(parent, { columns, rows, most_rows: mostRows }) {
    this.columns = columns;
    this.rows = rows;
    this.mostRows = mostRows;
    this.span = 900;
    this.drawn = CHARTS.map((chart) => this.#figure(parent, ...chart));
    this.observer = new ResizeObserver(() => this.#resize());
    this.observer.observe(parent);
    this.scheme = window.matchMedia("(prefers-color-scheme: dark)");
    this.scheme.addEventListener("change", () => this.#redraw());
    this.#redraw();
  }

  add(row) {
    this.rows.push(row);
    if (this.rows.length > this.mostRows) this.rows.shift();
    this.#update();
  }

  restart({ columns, rows }) {
    this.columns = columns;
    this.rows = rows;
    this.#update();
  }

  show(span) {
    this.span = span;
    this.#update();
  }

  latest() {
    const row = this.rows.at(-1) ?? [];
    return Object.fromEntries(this.columns.map((name, at) => [name, row[at]]));
  }

  #figure(parent, title, format, series) {
    const figure = document.createElement("figure");
    const caption = document.createElement("figcaption");
    caption.append(title);
    const lines = series.map(([column, label, place], at) => {
      const line = { column, label, place: place ?? PLACES[at] };
      line.key = document.createElement("span");
      line.key.className = `key ${line.place}`;
      caption.append(line.key);
      return line;
    });
    const canvas = document.createElement("div");
    canvas.setAttribute("aria-hidden", "true");
    figure.append(caption, canvas);
    parent.append(figure);
    return { canvas, format, lines, plot: null };
  }

  // uPlot takes colours once: another scheme is another plot.
  #redraw() {
    const style = getComputedStyle(document.documentElement);
    const color = (name) => style.getPropertyValue(name).trim();
    for (const drawn of this.drawn) {
      drawn.plot?.destroy();
      const axis = { stroke: color("--soft"), grid: { stroke: color("--line"), width: 1 },
        ticks: { show: false }, font: "11px system-ui, sans-serif" };
      drawn.plot = new uPlot({
        width: Math.max(drawn.canvas.clientWidth, 100), height: HEIGHT,
        legend: { show: false }, cursor: { show: false },
        padding: [8, 8, 0, 0],
        scales: { x: { time: true }, y: { range: (_plot, _least, most) => [0, most > 0 ? most * 1.1 : 1] } },
        axes: [{ ...axis, space: 70, size: 36 },
          { ...axis, size: 62, values: (_plot, values) => values.map((value) => drawn.format(value)) }],
        series: [{}, ...drawn.lines.map((line) => ({ stroke: color(COLORS[line.place]), width: 1.6,
          points: { show: false }, spanGaps: true }))],
      }, this.#data(drawn), drawn.canvas);
    }
    this.#update();
  }

  #resize() {
    for (const { plot, canvas } of this.drawn) {
      const width = Math.max(canvas.clientWidth, 100);
      if (plot && plot.width !== width) plot.setSize({ width, height: HEIGHT });
    }
  }

  #shown() {
    const from = (this.rows.at(-1)?.[0] ?? 0) - this.span;
    return this.rows.filter((row) => row[0] >= from);
  }

  #data(drawn, rows = this.#shown()) {
    return [0, ...drawn.lines.map(({ column }) => this.columns.indexOf(column))]
      .map((at) => rows.map((row) => row[at]));
  }

  #update() {
    const rows = this.#shown();
    const latest = this.latest();
    for (const drawn of this.drawn) {
      drawn.plot.setData(this.#data(drawn, rows));
      for (const { key, label, column } of drawn.lines) {
        key.textContent = `${label} ${drawn.format(latest[column])}`;
      }
    }
  }
}
