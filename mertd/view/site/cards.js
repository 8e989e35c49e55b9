// The streams and daemons. Whatever others wrote gets into the page as text, never as markup.

import { ago, at, between } from "./times.js";

export function element(name, facts = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(facts)) {
    if (key === "class") made.className = value;
    else if (key === "text") made.textContent = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

const keyOf = (card) => JSON.stringify([card.daemon, card.stream]);

export class Cards {
  constructor() {
    this.daemons = new Map();
    this.streams = new Map();
    this.shown = new Map(); // by key of the stream: its element, and what it shows
  }

  snapshot(whole) {
    this.daemons = new Map(whole.daemons.map((card) => [card.daemon, card]));
    this.streams = new Map(whole.streams.map((card) => [keyOf(card), card]));
    this.draw();
  }

  news(board) {
    for (const one of board.gone) {
      if (one.stream === null) this.daemons.delete(one.daemon);
      else this.streams.delete(keyOf(one));
    }
    for (const card of board.daemons) this.daemons.set(card.daemon, card);
    for (const card of board.streams) this.streams.set(keyOf(card), card);
    this.draw();
  }

  get untrained() {
    return [...this.daemons.values()].some((daemon) => daemon.untrained);
  }

  get replays() {
    return [...this.daemons.values()].filter((daemon) => daemon.replay).map((daemon) => daemon.daemon);
  }

  draw() {
    const place = document.getElementById("streams");
    for (const [key, made] of this.shown) {
      if (!this.streams.has(key)) {
        made.remove();
        this.shown.delete(key);
      }
    }
    for (const key of [...this.streams.keys()].sort()) {
      const card = this.streams.get(key);
      const made = this.shown.get(key) ?? element("article", { class: "card" });
      if (!this.shown.has(key)) this.shown.set(key, made);
      const daemon = this.daemons.get(card.daemon);
      const state = JSON.stringify([card, daemon]);
      if (made.state !== state) {
        made.state = state;
        fill(made, card, daemon);
      }
      if (made.parentNode !== place) place.append(made);
    }
    const lines = [...this.daemons.values()].map(daemonLine);
    document.getElementById("daemons").replaceChildren(...lines);
  }
}

function daemonLine(daemon) {
  const words = daemon.silent ? `has said nothing since ${at(daemon.heard_ms)}` : daemon.words;
  const model = daemon.model ? ` Model: ${daemon.model}.` : "";
  const line = element("p", { class: "daemon", text: `Daemon ${daemon.daemon} (mertd ${daemon.version || "?"}): ${words}.${model} ` });
  if (daemon.untrained) line.append(element("span", { class: "tag", text: "UNTRAINED" }));
  if (daemon.silent) line.classList.add("fault");
  return line;
}

function fill(made, card, daemon) {
  const silent = daemon?.silent;
  made.className = `card ${silent ? "gone" : card.tone}`;
  made.setAttribute("data-stream", card.stream);
  const lines = [element("h3", { text: card.stream })];
  lines.push(element("p", { class: "state", text: silent ? "Its daemon does not answer" : card.words }));
  if (card.source) lines.push(element("p", { class: "dim", text: card.source }));
  if (card.level_dbfs !== null || card.level_words) lines.push(level(card));
  if (card.window !== null) {
    const { seq, start_ms, end_ms, numbers, size } = card.window;
    lines.push(element("p", { text: `Window ${seq}: ${between(start_ms, end_ms)}, ${card.latency_words}` }));
    const some = numbers.map((number) => (number === null ? "not finite" : (number < 0 ? "" : "+") + number.toFixed(3))).join("  ");
    const line = element("p", { class: "numbers", text: `${some} … (${size.toLocaleString()} numbers) ` });
    if (daemon?.untrained) line.append(element("span", { class: "tag", text: "UNTRAINED" }));
    lines.push(line);
  }
  if (card.skipped_words) lines.push(element("p", { class: "dim", text: card.skipped_words }));
  if (card.fault !== null) {
    lines.push(element("p", { class: "fault", text: `Last fault, ${at(card.fault.time_ms)} (${ago(card.fault.time_ms)}): ${card.fault.words}` }));
  }
  made.replaceChildren(...lines);
}

function level(card) {
  const words = card.level_dbfs === null ? card.level_words : `${card.level_dbfs.toFixed(1)} dBFS, ${card.level_words}`;
  const meter = element("meter", { min: -70, max: 0, low: -45, high: -6, optimum: -20, value: card.level_dbfs ?? -70 });
  meter.setAttribute("aria-label", `Level of ${card.stream}: ${words}`);
  return element("div", { class: "level" }, meter, element("span", { text: words }));
}
