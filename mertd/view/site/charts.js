// The three pictures, drawn by plotly. Times are milliseconds on a plain axis whose labels are local times: an hour that a
// clock shows twice is drawn twice.

import { at, atMinute, between, onDay } from "./times.js";

const NOT_HEARD = 255;
const CONFIG = { displayModeBar: false, responsive: true, doubleClick: false, showTips: false };
const HOURS = [1, 2, 3, 6, 12];
const MINUTES = [1, 2, 5, 10, 15, 30];
const MAX_LINES = 150;
const FLOOR_DB = 70; // levels are drawn from -70 dBFS on

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const isTouch = () => matchMedia("(pointer: coarse)").matches;
const isDark = () => matchMedia("(prefers-color-scheme: dark)").matches;

let loading = null;

export function plotly() {
  loading ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = document.body.dataset.chart;
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => reject(new Error("the code for charts did not load"));
    document.head.append(script);
  });
  return loading;
}

// Local times of day between two times, a few of them: [[ms], [text]].
export function ticks(since, until, most) {
  const minutes = (until - since) / 60000;
  const step = [...MINUTES, ...HOURS.map((hours) => 60 * hours), 1440, 2880, 10080, 40320].find((one) => minutes / one <= most) ?? 80640;
  const date = new Date(since);
  date.setHours(0, 0, 0, 0);
  const values = [];
  const texts = [];
  for (let day = 0; date.getTime() < until && day < 1000; day += Math.max(1, step / 1440)) {
    for (let minute = 0; minute < 1440; minute += step) {
      const time = new Date(date.getFullYear(), date.getMonth(), date.getDate(), 0, minute).getTime();
      if (time >= since && time < until && time !== values.at(-1)) {
        values.push(time);
        texts.push(minute === 0 ? onDay(time) : atMinute(time));
      }
    }
    date.setDate(date.getDate() + Math.max(1, step / 1440));
  }
  return [values, texts];
}

function axis(since, until, wide) {
  const [tickvals, ticktext] = ticks(since, until, wide);
  return { type: "linear", range: [since, until], tickvals, ticktext, tickangle: 0, gridcolor: colour("--line"), zeroline: false, linecolor: colour("--line") };
}

function layout(more, untrained) {
  const marks = untrained
    ? [{ text: "UNTRAINED", xref: "paper", yref: "paper", x: 0.5, y: 0.5, showarrow: false, opacity: 0.6, font: { size: 34, color: colour("--bad") } }]
    : [];
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: colour("--ink"), family: "system-ui, sans-serif", size: 13 },
    margin: { l: 44, r: 14, t: 12, b: 34 }, showlegend: false, annotations: marks, hovermode: "closest",
    hoverlabel: { bgcolor: colour("--card"), bordercolor: colour("--dim"), font: { color: colour("--ink") } },
    ...more,
  };
}

const few = (id) => Math.max(2, Math.floor((document.getElementById(id).clientWidth || 400) / 90));

// The line of novelty, its marks and the level below it.
export async function drawLine(data, selected) {
  const Plotly = await plotly();
  const { since_ms: since, until_ms: until, line, levels } = data;
  const marks = data.marks.filter((mark) => mark.ms >= since && mark.ms < until);
  const top = Math.max(1.5, ...line.novelty.filter((value) => value !== null)) * 1.15;
  const kinds = [["change", "triangle-down", colour("--bad")], ["return", "circle", colour("--good")]];
  const traces = [
    {
      type: "scatter", mode: "lines", x: line.ms, y: line.novelty, line: { color: colour("--accent"), width: 1.5 }, connectgaps: false,
      text: line.ms.map((ms, place) => `${at(ms)}<br>novelty ${line.novelty[place]}`), hoverinfo: "text",
    },
    ...kinds.map(([kind, symbol, color], place) => {
      const some = marks.filter((mark) => mark.event === kind);
      return {
        type: "scatter", mode: "markers", x: some.map((mark) => mark.ms), y: some.map(() => top * (0.96 - 0.09 * place)),
        marker: { symbol, color, size: 10, line: { color: colour("--card"), width: 1 } }, text: some.map(markWords), hoverinfo: "text",
      };
    }),
  ];
  if (levels?.length) {
    const step = (until - since) / levels.length;
    traces.push({
      type: "scatter", mode: "lines", yaxis: "y2", x: levels.map((_, place) => since + (place + 0.5) * step), fill: "tozeroy",
      y: levels.map((level) => (level === null ? null : Math.max(0, level + FLOOR_DB))),
      line: { color: colour("--low"), width: 0.5 }, hoverinfo: "skip", connectgaps: false,
    });
  }
  const vertical = (x, color, dash, width) => ({ type: "line", x0: x, x1: x, yref: "paper", y0: 0, y1: 1, line: { color, dash, width } });
  const shapes = marks.length <= MAX_LINES ? marks.map((mark) => vertical(mark.ms, colour("--line"), "dot", 1)) : [];
  if (selected !== null) shapes.push(vertical(selected, colour("--focus"), "solid", 2));
  const split = levels?.length ? 0.26 : 0;
  await Plotly.react("line", traces, layout({
    margin: { l: 60, r: 14, t: 12, b: 34 },
    xaxis: { ...axis(since, until, few("line")), anchor: split ? "y2" : "y" }, dragmode: isTouch() ? false : "zoom", shapes,
    yaxis: { range: [0, top], domain: [split, 1], fixedrange: true, gridcolor: colour("--line"), zeroline: false, title: { text: "novelty", standoff: 4 } },
    yaxis2: { range: [0, FLOOR_DB], domain: [0, Math.max(0, split - 0.04)], fixedrange: true, tickvals: [FLOOR_DB - 60, FLOOR_DB - 20], ticktext: ["−60 dB", "−20 dB"], gridcolor: colour("--line"), zeroline: false },
  }, !data.trained), CONFIG);
}

export function markWords(mark) {
  const number = mark.number === null ? "" : mark.number.toFixed(2);
  const bound = mark.bound_ms === null ? "" : ` ± ${Math.round(mark.bound_ms / 1000)} s`;
  if (mark.event === "change") return `${at(mark.ms)}${bound}: change, strength ${number}`;
  const like = mark.like_ms === null ? "" : `, like ${between(...mark.like_ms)}`;
  return `${at(mark.ms)}${bound}: return${like}, similarity ${number}`;
}

export const bytesOf = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

// The square, as a picture on plotly's axes: a cell of its own for each pair would take seconds.
export async function drawSquare(data, selected) {
  const Plotly = await plotly();
  const { since_ms: since, until_ms: until, square } = data;
  const values = bytesOf(square.data);
  const source = painted(values, square.size);
  const line = (x0, x1, y0, y1) => ({ type: "line", x0, x1, y0, y1, line: { color: colour("--focus"), width: 1.5 } });
  const shapes = selected === null ? [] : [line(selected, selected, since, until), line(since, until, selected, selected)];
  const span = axis(since, until, Math.min(5, few("square")));
  await Plotly.react("square", [{ type: "scatter", x: [since, until], y: [since, until], mode: "markers", marker: { opacity: 0 }, hoverinfo: "none" }], layout({
    images: [{ source, xref: "x", yref: "y", x: since, y: until, sizex: until - since, sizey: until - since, sizing: "stretch", layer: "below" }],
    margin: { l: 84, r: 14, t: 12, b: 34 }, shapes, dragmode: false, hovermode: false,
    xaxis: { ...span, fixedrange: true, showgrid: false }, yaxis: { ...span, fixedrange: true, showgrid: false },
  }, !data.trained), CONFIG);
  return values;
}

function painted(values, size) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = size;
  const context = canvas.getContext("2d");
  const image = context.createImageData(size, size);
  const ends = isDark() ? [[18, 23, 29], [44, 93, 135], [255, 226, 150]] : [[255, 255, 255], [126, 176, 214], [24, 42, 92]];
  const table = Array.from({ length: 255 }, (_, value) => {
    const share = Math.max(0, (value - 90) / 164) * 2; // unrelated and less is all one colour
    const [from, to] = share < 1 ? [ends[0], ends[1]] : [ends[1], ends[2]];
    return from.map((start, place) => Math.round(start + (to[place] - start) * (share < 1 ? share : share - 1)));
  });
  for (let row = 0; row < size; row += 1) {
    for (let column = 0; column < size; column += 1) {
      const value = values[(size - 1 - row) * size + column];
      const target = 4 * (row * size + column);
      if (value !== NOT_HEARD) {
        image.data.set(table[value], target);
        image.data[target + 3] = 255;
      }
    }
  }
  context.putImageData(image, 0, 0);
  return canvas.toDataURL();
}

// The path of the sound, coloured by time.
export async function drawPath(data, selected) {
  const Plotly = await plotly();
  const { x, y } = data.path;
  const step = (data.until_ms - data.since_ms) / Math.max(1, x.length);
  const times = x.map((_, place) => data.since_ms + (place + 0.5) * step);
  const known = times.filter((_, place) => x[place] !== null);
  const [tickvals, ticktext] = ticks(data.since_ms, data.until_ms, 5);
  const traces = [{
    type: "scatter", mode: "lines+markers", x, y, connectgaps: false, line: { color: colour("--line"), width: 1 }, customdata: times,
    text: times.map(at), hoverinfo: "text",
    marker: { size: 6, color: times, colorscale: "Viridis", cmin: data.since_ms, cmax: data.until_ms, showscale: true, colorbar: { thickness: 10, tickvals, ticktext, outlinewidth: 0 } },
  }];
  const near = (ms) => times.reduce((best, time, place) => (x[place] !== null && (best < 0 || Math.abs(time - ms) < Math.abs(times[best] - ms)) ? place : best), -1);
  const circles = [[known.at(-1), "circle-open", colour("--ink"), "now"], [selected, "star", colour("--focus"), "selected"]];
  for (const [ms, symbol, color, name] of circles) {
    const place = ms === null || ms === undefined ? -1 : near(ms);
    if (place >= 0) traces.push({ type: "scatter", mode: "markers", x: [x[place]], y: [y[place]], customdata: [times[place]], marker: { symbol, color, size: 15, line: { width: 2, color } }, text: [`${name === "now" ? "the newest" : "selected"}: ${at(times[place])}`], hoverinfo: "text" });
  }
  const plain = { showticklabels: false, zeroline: false, gridcolor: colour("--line"), fixedrange: true };
  await Plotly.react("path", traces, layout({ xaxis: plain, yaxis: { ...plain, scaleanchor: "x" }, margin: { l: 12, r: 12, t: 12, b: 12 }, dragmode: false }, !data.trained), CONFIG);
}
