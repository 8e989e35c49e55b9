// What happens, as it happens: server-sent events, over sleep, lost connections and restarts of the server.

const DEAF_MS = 15000; // without a beat for so long, the connection is dead, whatever the browser thinks of it
const RETRY_MS = 1000;
const KINDS = ["snapshot", "board", "window", "event", "problem", "beat"];

export class Live {
  // `on`: called with (kind, content). `onState`: called with true or false as the connection works or not.
  constructor(on, onState) {
    this.on = on;
    this.onState = onState;
    this.source = null;
    this.last = "";
    this.heard = Date.now();
    // A browser allows six connections to a server: hidden tabs must not use them up.
    document.addEventListener("visibilitychange", () => (document.hidden ? this.close() : this.open()));
    addEventListener("online", () => this.reopen());
    addEventListener("pageshow", () => this.open());
    addEventListener("pagehide", () => this.close());
    setInterval(() => this.check(), 2000);
    this.open();
  }

  open() {
    if (this.source !== null || document.hidden) return;
    const source = new EventSource(`live${this.last ? `?after=${encodeURIComponent(this.last)}` : ""}`);
    this.source = source;
    this.heard = Date.now();
    for (const kind of KINDS) {
      source.addEventListener(kind, (event) => {
        if (this.source !== source) return;
        this.heard = Date.now();
        if (event.lastEventId) this.last = event.lastEventId;
        this.onState(true);
        if (kind !== "beat") this.on(kind, JSON.parse(event.data));
      });
    }
    source.onerror = () => {
      if (this.source !== source) return;
      this.onState(false);
      this.close(); // a new one says by itself what it got last
      setTimeout(() => this.open(), RETRY_MS);
    };
  }

  close() {
    if (this.source !== null) this.source.close();
    this.source = null;
  }

  reopen() {
    this.close();
    this.open();
  }

  check() {
    if (this.source !== null && Date.now() - this.heard > DEAF_MS) {
      this.onState(false);
      this.reopen();
    }
  }
}
