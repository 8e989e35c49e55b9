// Print embeddings as they come, with Node.
//
//     cd examples && npm install && node subscribe.mjs [ENDPOINT [COUNT]]
//
// With --bits each number is printed as the eight hexadecimal digits of its float32. For a daemon with --curve, set
// CURVE_SERVER_KEY, CURVE_PUBLIC_KEY and CURVE_SECRET_KEY to what the client's key file holds (`mertd keys show` says where).
import { decode } from "@msgpack/msgpack";
import { Subscriber } from "zeromq";

const words = process.argv.slice(2).filter((word) => word !== "--bits");
const bits = process.argv.includes("--bits");
const endpoint = words[0] ?? "tcp://127.0.0.1:5590";
let count = words[1] === undefined ? Infinity : Number(words[1]);

const socket = new Subscriber({ linger: 0 });
if (process.env.CURVE_SERVER_KEY) {
  socket.curveServerKey = process.env.CURVE_SERVER_KEY;
  socket.curvePublicKey = process.env.CURVE_PUBLIC_KEY;
  socket.curveSecretKey = process.env.CURVE_SECRET_KEY;
}
socket.subscribe("embedding/"); // of every stream; "embedding/NAME/" for one
socket.ipv6 = endpoint.includes("["); // without it, libzmq knows no addresses such as [::1]
socket.connect(endpoint);

const expected = new Map();
for await (const [, payload] of socket) {
  // Nanoseconds since 1970 need 64 bits: a double would round them to a quarter of a microsecond.
  const message = decode(payload, { useBigInt64: true });
  if (Number(message.schema) !== 1) throw new Error(`this reads version 1 of the format, not ${message.schema}`);

  // Each run of the daemon numbers its messages without holes: a hole is a message that did not arrive.
  const source = Buffer.from(message.boot).toString("hex") + message.stream;
  const lost = Number(message.seq) - (expected.get(source) ?? Number(message.seq));
  if (lost > 0) console.error(`${lost} messages lost`);
  expected.set(source, Number(message.seq) + 1);

  const { shape, data } = message.vector; // float32, little-endian, (layers, numbers)
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const numbers = Array.from({ length: data.byteLength / 4 }, (_, i) => view.getFloat32(4 * i, true));
  const shown = bits
    ? numbers.map((_, i) => view.getUint32(4 * i, true).toString(16).padStart(8, "0")).join(" ")
    : `${shape.join("x")} ${numbers.slice(0, 3).map((x) => x.toFixed(3)).join(" ")} …`;
  console.log(`${message.daemon} ${message.stream} ${message.seq} ${message.time.start_ns} ${shown}`);
  if (--count <= 0) break;
}
socket.close();
