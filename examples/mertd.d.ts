// Types of what mertd sends. Written by docs/typescript.py from docs/protocol.md; do not edit.
//
//     import type { Message, Decoded } from "./mertd";
//     const message = decode(payload, { useBigInt64: true }) as Message<Decoded>;
//
// A message has new keys in new versions, and names and words that are not listed here: ignore what you do not know.

/** How numbers and bytes arrive: it depends on what reads them. */
export interface Form {
  integer: number | bigint;
  /** Nanoseconds: keys that end in _ns. Beyond 2^53, JavaScript's numbers are rounded to a quarter of a microsecond. */
  time: number | bigint | string;
  boot: Uint8Array | string;
  data: Uint8Array | number[][];
}

/** Decoded with `@msgpack/msgpack` and `useBigInt64`: large integers are bigint, small ones are numbers. */
export interface Decoded extends Form {
  integer: number | bigint;
  time: number | bigint;
  boot: Uint8Array;
  data: Uint8Array;
}

/** A line of `mertd tail --json`, parsed with `JSON.parse`: times are rounded. */
export interface Printed extends Form {
  integer: number;
  time: number;
  boot: string;
  data: number[][];
}

/** A line of `mertd tail --text-times`, parsed with `JSON.parse`: `BigInt(message.time.start_ns)` is exact. */
export interface PrintedExactly extends Form {
  integer: number;
  time: string;
  boot: string;
  data: number[][];
}

/** A word of a list that may grow. */
export type Open<Word extends string> = Word | (string & {});

export type Message<F extends Form = Decoded> = Embedding<F> | Event<F> | Status<F>;

export interface Embedding<F extends Form = Decoded> {
  /** version of this format */
  schema: 1;
  kind: "embedding";
  /** random number of this run of the daemon */
  boot: F["boot"];
  /** name of the daemon (`--name`); the same after a restart */
  daemon: string;
  /** name of the source */
  stream: string;
  /** number of this stretch of unbroken audio; a window never spans two */
  epoch: F["integer"];
  /** counts the embeddings of this (boot, stream) from 0 without holes */
  seq: F["integer"];
  window: {
    /** first sample of the window, and the first one after it */
    start: F["integer"];
    /** first sample of the window, and the first one after it */
    end: F["integer"];
    /** samples per second: 24000 */
    rate: F["integer"];
  };
  time: {
    /** when these two samples were heard */
    start_ns: F["time"];
    /** when these two samples were heard */
    end_ns: F["time"];
    /** bound of the error of both times */
    error_ns: F["time"];
    /** how much faster than nominal the source's clock runs */
    drift_ppm: number;
  };
  audio: {
    /** levels of the window, before normalisation */
    rms_dbfs: number;
    /** levels of the window, before normalisation */
    peak_dbfs: number;
    /** samples at full scale */
    clipped: F["integer"];
    /** samples that were lost on the way in and replaced by zeros */
    missing: F["integer"];
    /** samples that are exactly zero */
    zeros: F["integer"];
  };
  model: {
    /** `MERT-v1-95M` */
    name: string;
    /** fingerprint of model, weights, layers, pooling, window length and normalisation */
    space: string;
    /** SHA-256 of the tensors, hexadecimal */
    weights: string;
    /** false for random weights, which are good for plumbing only */
    trained: boolean;
    /** hidden states in the vector, each from 0 to 12 */
    layers: F["integer"][];
    /** how frames are combined over time: `mean` */
    pooling: string;
    /** `onnx`, `openvino`, `mlx`, `coreml` or `numpy`; `float32`, `float16` or `bfloat16` */
    backend: string;
    /** `onnx`, `openvino`, `mlx`, `coreml` or `numpy`; `float32`, `float16` or `bfloat16` */
    precision: string;
  };
  vector: {
    /** `<f4`: float32, little-endian */
    dtype: "<f4";
    /** number of layers, numbers per layer (768) */
    shape: [layers: F["integer"], numbers: F["integer"]];
    /** the numbers, layer by layer; not normalised to length 1 */
    data: F["data"];
  };
  latency_ns: {
    /** from the window's last sample in memory until it was given to the model */
    wait: F["integer"];
    /** time in the model, for all windows of the batch */
    embed: F["integer"];
    /** from the window's last sample in memory until publication */
    total: F["integer"];
  };
  /** windows skipped since the last embedding of this stream */
  skipped: F["integer"];
  /** true if the message comes from the history, or from [a replay](#replays) */
  replay: boolean;
}

export interface Event<F extends Form = Decoded> {
  /** version of this format */
  schema: 1;
  kind: "event";
  /** random number of this run of the daemon */
  boot: F["boot"];
  /** name of the daemon (`--name`); the same after a restart */
  daemon: string;
  /** name of the source */
  stream: string;
  /** number of this stretch of unbroken audio; a window never spans two */
  epoch: F["integer"];
  /** counts the events of this (boot, stream), independently of embeddings */
  seq: F["integer"];
  /** one of the names below; ignore names that you do not know */
  event: Open<EventName>;
  /** sample at which it happened */
  index: F["integer"];
  /** when it happened */
  time_ns: F["time"];
  /** depends on the event */
  detail: Record<string, unknown>;
  /** true if the message comes from the history, or from [a replay](#replays) */
  replay: boolean;
}

export interface Status<F extends Form = Decoded> {
  /** version of this format */
  schema: 1;
  kind: "status";
  /** random number of this run of the daemon */
  boot: F["boot"];
  /** name of the daemon (`--name`); the same after a restart */
  daemon: string;
  /** now; time since the start */
  time_ns: F["time"];
  /** now; time since the start */
  uptime_ns: F["time"];
  /** version of mertd */
  version: string;
  /** `starting`, `running`, `replaying` ([a replay](#replays)) or `stopping` */
  phase: Open<Phase>;
  /** description of the model, see below; empty until it is ready */
  model: ModelStatus<F> | Record<string, never>;
  /** one map per stream, see below */
  streams: Record<string, StreamStatus<F>>;
  /** one map per process, see below */
  processes: Record<string, ProcessStatus<F>>;
  /** messages sent */
  published: F["integer"];
  /** messages at which the queue of some subscriber was full */
  dropped: F["integer"];
}

export interface StreamStatus<F extends Form = Decoded> {
  /** `opening`, `listening`, `lost` (being looked for), `paused`, `ended`, `failed` */
  state: Open<StreamState>;
  /** the address, and what was opened for it */
  source: string;
  description: string;
  /** why the source is not heard; empty if it is */
  problem: string;
  /** how often the source was opened again; the number of the epoch */
  restarts: F["integer"];
  epoch: F["integer"];
  /** samples heard; samples lost on the way in */
  samples: F["integer"];
  missing: F["integer"];
  /** windows that became due: `embedded` + `silent` + `skipped` + `waiting` */
  due: F["integer"];
  /** embeddings and events published, which is also the next `seq` of each */
  embedded: F["integer"];
  events: F["integer"];
  /** windows below the gate, skipped, and not decided yet */
  silent: F["integer"];
  skipped: F["integer"];
  waiting: F["integer"];
  /** `skipped` by reason: a map with the reasons of the event `skipped` */
  skips: Record<string, F["integer"]>;
}

export interface ModelStatus<F extends Form = Decoded> {
  /** as in an embedding */
  name: string;
  weights: string;
  trained: boolean;
  space: string;
  /** what computes, on which device, how exactly */
  backend: string;
  device: string;
  precision: string;
  /** smallest cosine with the reference at the start */
  agreement: number;
  /** why backends that come earlier in the order were not taken, by name */
  rejected: Record<string, string>;
}

export interface ProcessStatus<F extends Form = Decoded> {
  /** process number, state (as in `health`), how often it was started again */
  pid: F["integer"];
  state: string;
  restarts: F["integer"];
  /** the last error and when it happened; empty and 0 if there was none */
  last_error?: string;
  last_error_ns?: F["time"];
  /** open connections of clients; connections that were cut off because they went beyond a limit or their key was revoked */
  connections?: F["integer"];
  connections_cut_off?: F["integer"];
  /** connections that have subscribed to something */
  subscribers?: F["integer"];
  /** messages that the history holds, and what they take in memory */
  history_messages?: F["integer"];
  history_bytes?: F["integer"];
  /** lines of the log that were lost, and left out as repetitions */
  log_lost?: F["integer"];
  log_left_out?: F["integer"];
  /** true; the daemon's public key */
  curve?: boolean;
  public_key?: string;
  /** clients on the list; rejected connections by reason */
  clients_allowed?: F["integer"];
  rejected?: Record<string, F["integer"]>;
  /** why the list cannot be read; empty if it can */
  keys_problem?: string;
}

export type EventName =
  | "started"
  | "epoch"
  | "device_lost"
  | "device_back"
  | "overflow"
  | "zeros"
  | "zeros_over"
  | "silent"
  | "skipped"
  | "health"
  | "backend_changed"
  | "changed"
  | "change"
  | "return"
  | "reloaded"
  | "paused"
  | "resumed"
  | "ended"
  | "failed"
  | "stopping"
  | "hole";

export type Phase =
  | "starting"
  | "running"
  | "replaying"
  | "stopping";

export type StreamState =
  | "opening"
  | "listening"
  | "lost"
  | "paused"
  | "ended"
  | "failed";
