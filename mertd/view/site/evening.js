// What was heard in a span: asks the memory, draws it, and lets a moment be selected.

import { element } from "./cards.js";
import { bytesOf, drawLine, drawPath, drawSquare, markWords, plotly } from "./charts.js";
import { at, between, inFull, midnight } from "./times.js";

const HOUR_MS = 3600000;
const GRID_MS = 10000; // ends of spans, so that several browsers ask the same
const MIN_REFRESH_MS = 30000;
const OLD_MS = 2 * HOUR_MS;
const MAX_POINTS = 4000;
const MAX_RECENT = 100; // windows that may come while the server is asked
const SLIDER = 1000;
const MAX_ASK_MS = 300; // the charts' code does not wait longer for an answer
const by = (id) => document.getElementById(id);

export class Evening {
  // `onTrained`: told whether what is shown comes from trained weights.
  constructor(onTrained) {
    this.onTrained = onTrained;
    this.streams = new Map(); // by key: what is known of the stream
    this.key = null;
    this.isChosen = false;
    this.isReady = false; // to show what is only heard
    this.isTold = false; // what the server knew before
    this.hours = 24;
    this.until = null; // null: now
    this.range = null; // a span that was chosen by hand
    this.data = null;
    this.recent = []; // the newest windows: an answer may be older than they are
    this.selected = null;
    this.values = null;
    this.asked = 0;
    this.refreshed = 0;
    this.search = 0;
    this.waiting = false;
    this.wire();
  }

  wire() {
    by("stream").addEventListener("change", () => { this.isChosen = true; this.choose(by("stream").value); });
    for (const radio of document.querySelectorAll("input[name=span]")) {
      radio.addEventListener("change", () => this.show(Number(radio.value), this.range ? null : this.until));
    }
    by("earlier").addEventListener("click", () => this.move(-0.75));
    by("later").addEventListener("click", () => this.move(0.75));
    by("now").addEventListener("click", () => this.show(this.hours, null));
    by("moment").addEventListener("input", () => this.say(this.atSlider()));
    by("moment").addEventListener("change", () => this.select(this.atSlider()));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    addEventListener("resize", () => this.soon());
    setInterval(() => this.tick(), 5000);
  }

  // Asks before the charts' code runs, which keeps the browser busy: the server answers meanwhile.
  async start() {
    const looked = this.look();
    const loaded = looked.then(() => {
      this.isReady = true; // what is remembered goes before what is only heard
      return this.load();
    });
    await Promise.race([looked, new Promise((resolve) => setTimeout(resolve, MAX_ASK_MS))]);
    plotly().catch(() => {});
    await loaded;
  }

  // Which streams are remembered?
  async look() {
    const found = await ask("remembered");
    by("missing").hidden = !found.missing;
    by("missing-why").textContent = found.missing ?? "";
    if (this.data === null) by("line-words").textContent = found.problem ?? "";
    for (const stream of found.streams ?? []) this.streams.set(stream.key, { ...this.streams.get(stream.key), ...stream, remembered: true });
    this.offer(found.streams?.[0]?.key);
  }

  offer(first) {
    const names = [...this.streams.values()];
    const several = new Set(names.map((one) => one.daemon)).size > 1;
    const spaces = new Set();
    const options = names.map((one) => {
      const name = several ? `${one.stream} (${one.daemon})` : one.stream;
      const again = spaces.has(name) ? `${name}, space ${String(one.space ?? "").slice(0, 6)}` : name;
      spaces.add(name);
      return element("option", { value: one.key, text: again });
    });
    by("stream").replaceChildren(...options);
    if (this.key === null && names.length) this.key = first ?? names[0].key;
    if (this.key !== null) by("stream").value = this.key;
  }

  choose(key) {
    this.key = key;
    this.selected = null;
    this.data = null;
    this.load();
  }

  // Does what is shown end now?
  get isNow() {
    return this.until === null && this.range === null;
  }

  get span() {
    if (this.range !== null) return this.range;
    const until = this.until ?? Math.ceil(Date.now() / GRID_MS) * GRID_MS;
    return [until - this.hours * HOUR_MS, until];
  }

  show(hours, until) {
    this.hours = hours;
    this.until = until;
    this.range = null;
    this.load();
  }

  move(share) {
    const [since, until] = this.span;
    const moved = until + share * (until - since);
    if (this.range !== null) this.range = [since + share * (until - since), moved].map(Math.round);
    else this.until = moved >= Date.now() ? null : Math.round(moved);
    this.load();
  }

  // Ask for the span and draw it.
  async load() {
    this.refreshed = Date.now();
    if (this.key === null) return;
    const stream = this.streams.get(this.key);
    if (this.isNow && stream?.last_ms && Date.now() - stream.last_ms > OLD_MS && !stream.live) this.until = stream.last_ms + 60000;
    const [since, until] = this.span;
    const asked = ++this.asked;
    let data;
    if (stream?.remembered) {
      data = await ask(`span?key=${this.key}&since=${since}&until=${until}&midnight=${midnight(Math.min(until, Date.now()) - 1)}`);
    } else {
      data = { ...(await ask(`lately?key=${this.key}`)), trained: stream?.trained ?? true, lately: true, since_ms: since, until_ms: until };
      if (data.line?.ms.length && this.isNow) data.since_ms = Math.max(since, Math.min(data.line.ms[0], until - 60000));
    }
    if (asked !== this.asked) return; // something else was asked for meanwhile
    if (!data.line) {
      by("line-words").textContent = data.missing ?? data.problem ?? "";
      return;
    }
    data.pictured = [data.since_ms, data.until_ms]; // of what is drawn from pixels; the line goes on
    this.data = data;
    for (const facts of this.recent) this.add(facts);
    this.onTrained(data.trained);
    await this.draw();
    if (stream?.remembered && this.selected === null) this.like(null);
  }

  async draw() {
    const data = this.data;
    if (data === null) return;
    for (const section of document.querySelectorAll(".remembered")) section.hidden = Boolean(data.lately);
    await drawLine(data, this.selected);
    this.words();
    if (!data.lately) {
      this.values = bytesOf(data.square.data);
      await drawSquare(data, this.selected);
      await drawPath(data, this.selected);
    }
    this.listen();
    await new Promise((resolve) => requestAnimationFrame(resolve));
    performance.clearMarks("evening-drawn");
    performance.mark("evening-drawn");
    document.body.dataset.drawn = String(data.windows ?? data.line.ms.length);
  }

  // Draw again in a moment, once for all that happens until then.
  soon() {
    if (this.waiting) return;
    this.waiting = true;
    setTimeout(() => requestAnimationFrame(() => { this.waiting = false; this.draw(); }), 250);
  }

  words() {
    const { since_ms, until_ms, line, marks, one_in, trained } = this.data;
    const inside = marks.filter((mark) => mark.ms >= since_ms && mark.ms < until_ms);
    const returns = inside.filter((mark) => mark.event === "return").length;
    let best = -1;
    line.novelty.forEach((value, place) => { if (value !== null && (best < 0 || value > line.novelty[best])) best = place; });
    const parts = [`${inFull(since_ms)} to ${inFull(until_ms)}: ${inside.length - returns} changes, ${returns} of them returns.`];
    parts.push(best < 0 ? "Nothing is known of the sound in this time." : `The highest novelty was ${line.novelty[best]}, at ${at(line.ms[best])}.`);
    if (one_in > 1) parts.push(`One in ${one_in} windows was looked at.`);
    if (!trained) parts.unshift("UNTRAINED weights.");
    by("line-words").textContent = parts.join(" ");
    by("changes-count").textContent = String(inside.length);
    by("changes").replaceChildren(...inside.slice(-200).reverse().map((mark) => {
      const button = element("button", { type: "button", text: markWords(mark) });
      button.addEventListener("click", () => this.select(mark.ms));
      return element("li", {}, button);
    }));
    by("moment").disabled = false;
    if (this.selected === null) this.say(this.atSlider());
    if (this.data.lately) return;
    by("square-words").textContent = "Both axes are this span. Dark (in dark mode: bright) is alike, seen from the mean of the span; blocks are sections, stripes beside them are returns. Empty: nothing was heard.";
    const share = this.data.path.share.map((one) => `${Math.round(100 * one)} %`).join(" and ");
    by("path-words").textContent = share
      ? `Each point is a moment; near points are alike in the two directions in which the sound before this day differed most (${share} of the differences). The axes have no meaning of their own: neither loudness nor mood, and they stay the same all day. Points that are far apart here are unlike; points that are near may still differ in what is not shown.`
      : "Too little is remembered for axes.";
  }

  listen() {
    const listened = (chart, on) => { if (!chart.mertdListens && chart.on) { chart.mertdListens = true; on(chart); } };
    listened(by("line"), (chart) => {
      chart.on("plotly_click", (event) => this.select(event.points[0].x));
      chart.on("plotly_relayout", (change) => {
        const since = change["xaxis.range[0]"];
        if (since === undefined) return;
        const until = Math.round(change["xaxis.range[1]"]);
        if (until - since < 10000) { this.draw(); return; }
        this.range = [Math.round(since), until];
        for (const radio of document.querySelectorAll("input[name=span]")) radio.checked = false;
        this.load();
      });
    });
    listened(by("path"), (chart) => chart.on("plotly_click", (event) => this.select(event.points[0].customdata)));
    const square = by("square");
    if (!square.mertdListens) {
      square.mertdListens = true;
      square.addEventListener("click", (event) => { const pair = this.pair(event); if (pair) this.select(pair[0]); });
      square.addEventListener("mousemove", (event) => {
        const pair = this.pair(event);
        square.title = pair ? `${at(pair[0])} and ${at(pair[1])}: ${pair[2]}` : "";
      });
    }
  }

  // The two moments of the square below the pointer, and how alike they are.
  pair(event) {
    const { _fullLayout: full } = by("square");
    if (!full || !this.values) return null;
    const box = by("square").getBoundingClientRect();
    const { pictured: [since, until], square } = this.data;
    const x = (event.clientX - box.left - full.xaxis._offset) / full.xaxis._length;
    const y = 1 - (event.clientY - box.top - full.yaxis._offset) / full.yaxis._length;
    if (!(x >= 0 && x < 1 && y >= 0 && y < 1)) return null;
    const value = this.values[Math.floor(y * square.size) * square.size + Math.floor(x * square.size)];
    const words = value === 255 ? "not heard" : `similarity ${(value / 127 - 1).toFixed(2)}`;
    return [Math.round(since + x * (until - since)), Math.round(since + y * (until - since)), words];
  }

  atSlider() {
    const [since, until] = this.data ? [this.data.since_ms, this.data.until_ms] : this.span;
    return Math.round(since + (Number(by("moment").value) / SLIDER) * (until - since));
  }

  say(ms) {
    by("moment-words").textContent = at(ms);
    by("moment").setAttribute("aria-valuetext", inFull(ms));
  }

  select(ms) {
    if (!this.data) return;
    this.selected = ms;
    const { since_ms, until_ms } = this.data;
    by("moment").value = String(Math.round((SLIDER * (ms - since_ms)) / (until_ms - since_ms)));
    this.say(ms);
    if (ms < since_ms || ms >= until_ms) {
      this.range = [Math.round(ms - (until_ms - since_ms) / 2), Math.round(ms + (until_ms - since_ms) / 2)];
      this.load();
    } else {
      this.draw();
    }
    if (this.streams.get(this.key)?.remembered) this.like(ms);
  }

  // The moments that sound most like one; null: like the newest.
  async like(ms) {
    const search = ++this.search;
    by("similar-words").textContent = "Searching …";
    const found = await ask(`similar?key=${this.key}${ms === null ? "" : `&at=${Math.round(ms)}`}`);
    if (search !== this.search) return;
    if (!found.moments) {
      by("similar-words").textContent = found.missing ?? found.problem ?? "";
      by("similar").replaceChildren();
      return;
    }
    const untrained = found.trained ? "" : "UNTRAINED weights: this means nothing as music. ";
    const what = ms === null ? "the newest window" : "the selected window";
    by("similar-words").textContent = `${untrained}Like ${what}, ${between(found.start_ms, found.end_ms)}${found.moments.length ? "" : ": nothing else is remembered"}`;
    by("similar").replaceChildren(...found.moments.map((one) => {
      const unusual = one.percentile === null ? "" : `, more alike than ${(Math.floor(one.percentile * 100) / 100).toFixed(2)} % of random pairs`;
      const button = element("button", { type: "button", text: `${between(one.start_ms, one.end_ms)}, ${one.stream}` });
      button.addEventListener("click", () => this.select(one.best_ms));
      return element("li", {}, button, ` similarity ${one.similarity.toFixed(2)}${unusual}`);
    }));
  }

  // All that the server knows. The first time it is of what came before this page; later, of what this page has missed.
  snapshot(heard) {
    for (const facts of heard) this.hear(facts);
    if (this.isTold && this.isNow) this.load();
    this.isTold = true;
  }

  // A stream is heard, or was since the server began.
  hear({ key, daemon, stream, trained }) {
    const known = this.streams.get(key);
    if (known?.live) return;
    this.streams.set(key, { remembered: false, trained, ...known, key, daemon, stream, live: true });
    if (!this.isReady) return;
    const shown = this.streams.get(this.key);
    const better = !shown || (!shown.live && Date.now() - (shown.last_ms ?? 0) > OLD_MS);
    if (!this.isChosen && better && this.key !== key) this.choose(key);
    this.offer(key);
  }

  // A window has come.
  window(facts) {
    this.hear(facts);
    this.recent.push(facts);
    if (this.recent.length > MAX_RECENT) this.recent.shift();
    if (this.add(facts) && !document.hidden && Date.now() - (this.drawn ?? 0) > 1000) {
      this.drawn = Date.now();
      drawLine(this.data, this.selected).then(() => this.listen());
    }
  }

  // Add a window to what is shown, if it belongs there.
  add(facts) {
    if (facts.key !== this.key || this.data === null || !this.isNow) return false;
    const { line, marks } = this.data;
    if (facts.novelty !== undefined && facts.ms > (line.ms.at(-1) ?? 0)) {
      line.ms.push(facts.ms);
      line.novelty.push(Math.round((1000 * facts.novelty) / this.data.variance) / 1000);
      if (line.ms.length > MAX_POINTS) { line.ms.shift(); line.novelty.shift(); }
    }
    if (this.data.lately) for (const mark of facts.marks ?? []) this.mark(mark);
    this.data.until_ms = Math.max(this.data.until_ms, Date.now());
    if (!this.data.lately) this.data.since_ms = this.data.until_ms - this.hours * HOUR_MS;
    while (marks.length > MAX_POINTS) marks.shift();
    return true;
  }

  // A daemon that remembers has found a change.
  event(facts) {
    const stream = this.streams.get(this.key);
    if (facts.mark && this.data && !this.data.lately && stream?.daemon === facts.daemon && stream.stream === facts.stream) this.mark(facts.mark);
  }

  mark(mark) {
    const { marks } = this.data;
    if (!marks.some((one) => one.event === mark.event && Math.abs(one.ms - mark.ms) < 2000)) marks.push(mark);
  }

  // While now is shown, ask again from time to time: as often as there is a new pixel, and always if there is nothing to show yet.
  tick() {
    if (document.hidden || !this.isReady) return;
    const every = this.key === null ? 0 : Math.max(MIN_REFRESH_MS, (this.hours * HOUR_MS) / 480);
    if (!this.isNow || Date.now() - this.refreshed < every) return;
    (this.streams.get(this.key)?.remembered ? this.load() : this.look().then(() => this.load())).catch(() => {});
  }
}

async function ask(path) {
  try {
    const answer = await fetch(path);
    return await answer.json();
  } catch {
    return { problem: "The server of this page does not answer." };
  }
}
