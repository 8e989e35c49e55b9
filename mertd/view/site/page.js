// Joins the parts of the page.

import { Cards, element } from "./cards.js";
import { Evening } from "./evening.js";
import { Live } from "./live.js";
import { at, zone } from "./times.js";

const MAX_EVENTS = 50;
const cards = new Cards();
let shownTrained = true;
const evening = new Evening((trained) => { shownTrained = trained; showBanners(); });
const by = (id) => document.getElementById(id);

function showBanners(connects) {
  const untrained = cards.untrained || !shownTrained;
  by("untrained").hidden = !untrained;
  document.title = untrained ? "UNTRAINED – mertd" : "mertd";
  const replays = cards.replays;
  by("replay").hidden = !replays.length;
  by("replay").textContent = `This is a replay (${replays.join(", ")}): what is shown was heard earlier.`;
  by("nobody").hidden = cards.daemons.size > 0;
  if (connects) {
    by("nobody").textContent =
      `No daemon has been heard yet at ${connects.join(", ")}. If none runs there, start one with “mertd run”; the page goes on by itself.`;
  }
}

function showProblem(words) {
  by("problem").hidden = !words;
  by("problem").textContent = words;
}

function addEvent(event) {
  const line = element("li", { text: `${at(event.time_ms)}  ${event.stream}: ${event.words}` });
  if (event.kind === "fault") line.className = "fault";
  by("events").prepend(line);
  while (by("events").children.length > MAX_EVENTS) by("events").lastChild.remove();
}

function take(kind, content) {
  if (kind === "snapshot") {
    cards.snapshot(content);
    evening.snapshot(content.heard);
    by("events").replaceChildren();
    content.events.forEach(addEvent);
    showProblem(content.problem);
    showBanners(content.connects);
  } else if (kind === "board") {
    cards.news(content);
    showBanners();
  } else if (kind === "window") {
    evening.window(content);
  } else if (kind === "event") {
    addEvent(content);
    evening.event(content);
  } else if (kind === "problem") {
    showProblem(content.words);
  }
}

by("zone").textContent = zone;
let connected = null;
new Live(take, (works) => {
  if (works === connected) return;
  connected = works;
  by("connection").textContent = works ? "Live" : "The server of this page does not answer; trying again …";
});
evening.start();
