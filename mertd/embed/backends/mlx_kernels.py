"""GPU kernels for the front of the network, where memory traffic and not arithmetic takes the time.

Each kernel is written once, in what C, CUDA and Metal have in common, and without words that any of them reserves; a dialect
supplies the rest. No kernel uses shared memory or barriers: a thread depends on its number alone, so the same text also runs on
a CPU, one thread after another, and is tested there. `mlx_fused_ops` calls them. Feature maps are passed on *unfolded*: row t
holds, side by side, the time steps that the next convolution multiplies for its output t, already activated, so that the
convolution is one plain matrix product.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

MOMENTS = """
  // Sums of frames and of products of their samples, over every STREAMS-th frame of a window.
  // samples: (windows, SAMPLES). moments: (windows, LENGTH + LENGTH * (LENGTH + 1) / 2, STREAMS)
  const unsigned window = THREAD / STREAMS, stream = THREAD % STREAMS;
  if (window >= (unsigned)samples_shape[0]) return;
  GLOBAL const float* x = samples + (ulong_t)window * SAMPLES;
  float sum[LENGTH], product[LENGTH * (LENGTH + 1) / 2];
  UNROLL for (int i = 0; i < LENGTH; ++i) sum[i] = 0;
  UNROLL for (int k = 0; k < LENGTH * (LENGTH + 1) / 2; ++k) product[k] = 0;
  for (unsigned t = stream; t < FRAMES; t += STREAMS) {
    float f[LENGTH];
    UNROLL for (int i = 0; i < LENGTH; ++i) f[i] = x[t * HOP + i];
    int k = 0;
    UNROLL for (int i = 0; i < LENGTH; ++i) {
      sum[i] += f[i];
      UNROLL for (int j = i; j < LENGTH; ++j) product[k++] += f[i] * f[j];
    }
  }
  GLOBAL float* out = moments + (ulong_t)window * (LENGTH + LENGTH * (LENGTH + 1) / 2) * STREAMS + stream;
  UNROLL for (int i = 0; i < LENGTH; ++i) out[i * STREAMS] = sum[i];
  UNROLL for (int k = 0; k < LENGTH * (LENGTH + 1) / 2; ++k) out[(LENGTH + k) * STREAMS] = product[k];
"""
"""The statistics of the first convolution's input."""

TAPS = """
  // The instance norm folded into the first convolution: scaled weights, and a bias that also takes the mean frame away.
  // moments: (windows, LENGTH + LENGTH * (LENGTH + 1) / 2), summed over streams. weight: (CHANNELS, LENGTH). gamma, beta:
  // (CHANNELS). taps: (windows, LENGTH, CHANNELS). bias: (windows, CHANNELS)
  const unsigned window = THREAD / CHANNELS, channel = THREAD % CHANNELS;
  if (window >= (unsigned)moments_shape[0]) return;
  GLOBAL const float* m = moments + window * (LENGTH + LENGTH * (LENGTH + 1) / 2);
  float w[LENGTH], mean[LENGTH], variance = 0;
  UNROLL for (int i = 0; i < LENGTH; ++i) {
    w[i] = weight[channel * LENGTH + i];
    mean[i] = m[i] / FRAMES;
  }
  int k = LENGTH;
  UNROLL for (int i = 0; i < LENGTH; ++i) {
    UNROLL for (int j = i; j < LENGTH; ++j) {
      const float gram = m[k++] / FRAMES - mean[i] * mean[j];
      variance += (i == j ? 1 : 2) * w[i] * w[j] * gram;
    }
  }
  const float scale = gamma[channel] * RSQRT((variance > 0 ? variance : 0) + EPSILON);
  float shift = beta[channel];
  UNROLL for (int i = 0; i < LENGTH; ++i) {
    const float tap = scale * w[i];
    taps[(window * LENGTH + i) * CHANNELS + channel] = tap;
    shift -= tap * mean[i];
  }
  bias[window * CHANNELS + channel] = shift;
"""
"""The weights of the first convolution with the instance norm folded in."""

FIRST = """
  // The first convolution in float32, its GELU, and the rows of the next one. Four channels and TILE time steps a thread.
  // samples: (windows, SAMPLES). taps: (windows, LENGTH, CHANNELS). bias: (windows, CHANNELS).
  // rows: (windows, ROWS, KERNEL * CHANNELS)
  const unsigned lane = THREAD % (CHANNELS / 4), tile = THREAD / (CHANNELS / 4) % TILES;
  const unsigned window = THREAD / (CHANNELS / 4) / TILES, channel = 4 * lane;
  if (window >= (unsigned)samples_shape[0]) return;
  GLOBAL const float* x = samples + (ulong_t)window * SAMPLES;
  float w[LENGTH][4], b[4], f[LENGTH];
  UNROLL for (int c = 0; c < 4; ++c) {
    b[c] = bias[window * CHANNELS + channel + c];
    UNROLL for (int i = 0; i < LENGTH; ++i) w[i][c] = taps[(window * LENGTH + i) * CHANNELS + channel + c];
  }
  const unsigned begin = tile * TILE, end = begin + TILE < FRAMES ? begin + TILE : FRAMES;
  UNROLL for (int i = 0; i < LENGTH - HOP; ++i) f[i] = x[begin * HOP + i];
  for (unsigned t = begin; t < end; ++t) {
    UNROLL for (int i = LENGTH - HOP; i < LENGTH; ++i) f[i] = x[t * HOP + i];
    Half4 y;
    UNROLL for (int c = 0; c < 4; ++c) {
      float sum = b[c];
      UNROLL for (int i = 0; i < LENGTH; ++i) sum += w[i][c] * f[i];
      y.v[c] = (HALF)gelu(sum);
    }
    unfold(rows + (ulong_t)window * ROWS * KERNEL * CHANNELS + channel, y, t, ROWS, KERNEL, STRIDE, CHANNELS);
    UNROLL for (int i = 0; i < LENGTH - HOP; ++i) f[i] = f[i + HOP];
  }
"""
"""The first convolution."""

NEXT = """
  // GELU of a convolution's result, and the rows of the next one. Four channels of one time step a thread.
  // map: (windows, TIME, CHANNELS). rows: (windows, ROWS, KERNEL * CHANNELS)
  const unsigned lane = THREAD % (CHANNELS / 4), t = THREAD / (CHANNELS / 4) % TIME;
  const unsigned window = THREAD / (CHANNELS / 4) / TIME, channel = 4 * lane;
  if (window >= (unsigned)map_shape[0]) return;
  Half4 y = *(GLOBAL const Half4*)(map + ((ulong_t)window * TIME + t) * CHANNELS + channel);
  UNROLL for (int c = 0; c < 4; ++c) y.v[c] = (HALF)gelu((float)y.v[c]);
  unfold(rows + (ulong_t)window * ROWS * KERNEL * CHANNELS + channel, y, t, ROWS, KERNEL, STRIDE, CHANNELS);
"""
"""What lies between two later convolutions."""

_COMMON = """
INLINE float gelu(float x) {
  // x Phi(x), with the error function of Abramowitz and Stegun 1964, formula 7.1.26, good to 1.5e-7.
  const float z = (x < 0 ? -x : x) * 0.70710678f, t = RECIPROCAL(1 + 0.3275911f * z);
  const float poly = t * (0.254829592f + t * (-0.284496736f + t * (1.421413741f + t * (-1.453152027f + t * 1.061405429f))));
  const float tail = 0.5f * poly * EXP(-z * z);
  return x * (x < 0 ? tail : 1 - tail);
}

INLINE void unfold(GLOBAL HALF* rows, Half4 y, unsigned t, unsigned count, unsigned width, unsigned stride, unsigned size) {
  // Write time step t to every place where a convolution of this width and stride reads it: row (t - slot) / stride, at slot.
  UNROLL for (unsigned slot = 0; slot < width; ++slot) {
    if (t < slot || (t - slot) % stride) continue;
    const unsigned row = (t - slot) / stride;
    if (row < count) *(GLOBAL Half4*)(rows + ((ulong_t)row * width + slot) * size) = y;
  }
}
"""
"""Functions that the kernels call."""


@dataclass(frozen=True)
class Dialect:
    """What a language adds to the common text. `thread`: an expression for the number of the thread, from 0."""

    thread: str
    prelude: str

    def header(self) -> str:
        """Return the text before the kernel."""
        return self.prelude + _COMMON

    def body(self, kernel: str, constants: Mapping[str, int | float]) -> str:
        """Return the statements of a kernel, after its constants."""
        lines = "".join(
            f"  const {'float' if isinstance(value, float) else 'int'} {name} = {value!r};\n"
            for name, value in constants.items()
        )
        return lines + kernel.replace("THREAD", self.thread)


CUDA = Dialect(
    "(blockIdx.x * blockDim.x + threadIdx.x)",
    """
#define GLOBAL
#define HALF __half
#define INLINE __device__ inline
#define UNROLL _Pragma("unroll")
#define RSQRT rsqrtf
#define EXP __expf
#define RECIPROCAL(x) __fdividef(1.0f, x)
typedef unsigned long long ulong_t;
struct __align__(8) Half4 { __half v[4]; };
""",
)
"""CUDA, for an NVIDIA GPU."""

METAL = Dialect(
    "thread_position_in_grid.x",
    """
#define GLOBAL device
#define HALF half
#define INLINE inline
#define UNROLL _Pragma("unroll")
#define RSQRT metal::rsqrt
#define EXP metal::exp
#define RECIPROCAL(x) (1.0f / (x))
typedef ulong ulong_t;
struct Half4 { half4 v; };
""",
)
"""Metal, for a Mac's GPU."""
