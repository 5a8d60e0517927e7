// Chosen by native.py for linear nets with the squared loss.
// Gradient descent on f = W2 W1 X for many runs, through W = W2 W1 and the moments X X' and Y X':
// C = eta (W X X' - Y X'), then both from the old weights W2' -= W1 C', W1 -= W2' C.
// Built for one shape: -DM0= -DM2= -DREAL=. Rows are padded to whole vectors; all of a run fits the fastest cache.
#include "vectors.hpp"
constexpr int P0 = up(M0, L), P2 = up(M2, L), COLUMNS = REGISTERS / 3;

template <int R, int V, bool LESS>
static void rows(REAL *c, long ck, long count, long length, const REAL *a, long ak, long ar, const REAL *b, long bk) {
  long i = 0;
  for (; i + R <= count; i += R) {
    vec s[R][V] = {};
    product<R, V>(s, length, a + i * ar, ak, ar, b, bk);
    UNROLL for (int r = 0; r < R; r++)
      UNROLL for (int v = 0; v < V; v++) {
        REAL *at = c + (i + r) * ck + v * L;
        store(at, LESS ? load(at) - s[r][v] : s[r][v]);
      }
  }
  if constexpr (R > 1)
    if (i < count) rows<R / 2, V, LESS>(c + i * ck, ck, count - i, length, a + i * ar, ak, ar, b, bk);
}
// c = A' B, or c -= A' B: `count` rows ck apart of V vectors, sums over `length`.
template <int V, bool LESS = false>
INLINE void multiply(REAL *c, long ck, long count, long length, const REAL *a, long ak, long ar, const REAL *b, long bk) {
  constexpr int W = part(V, COLUMNS), R = (REGISTERS - 1 - W) / W;  // R W sums, W vectors of b, one number of a
  rows<R, W, LESS>(c, ck, count, length, a, ak, ar, b, bk);
  if constexpr (V > W) multiply<V - W, LESS>(c + W * L, ck, count, length, a, ak, ar, b + W * L, bk);
}

static __attribute__((noinline)) void step(REAL *w1, REAL *w2, REAL *change, REAL *w, REAL *c, REAL *ct, const REAL *xx, const REAL *yx, long m1, REAL eta) {
  multiply<P0 / L>(w, P0, M2, m1, w2, P2, 1, w1, P0);
  multiply<P0 / L>(c, P0, M2, M0, w, 1, P0, xx, P0);
  for (int k = 0; k < M2 * P0; k += L) store(c + k, eta * (load(c + k) - load(yx + k)));
  for (int b = 0; b < M0; b++)
    for (int a = 0; a < P2; a++) ct[b * P2 + a] = a < M2 ? c[a * P0 + b] : 0;
  multiply<P2 / L>(change, P2, m1, M0, w1, 1, P0, ct, P2);
  multiply<P0 / L, true>(w1, P0, m1, M2, w2, 1, P2, c, P0);
  for (long k = 0; k < m1 * P2; k += L) store(w2 + k, load(w2 + k) - load(change + k));
}
// Weights are w1 (m1, M0) and w2t (m1, M2) of each run; a step is the distance from one run's moments to the
// next (0: shared); eta is 0 where a run is frozen.
extern "C" void steps(REAL *w1t, REAL *w2t, const REAL *etas, const REAL *xx, const REAL *yx, long xx_step, long yx_step,
                      long runs, long m1, long, double, double, long count) {
  Memory memory(m1 * (P0 + 2 * P2) + 2 * M2 * P0 + M0 * P2);
  REAL *w1 = memory.start, *w2 = w1 + m1 * P0, *change = w2 + m1 * P2, *w = change + m1 * P2, *c = w + M2 * P0, *ct = c + M2 * P0;
  for (long run = 0; run < runs; run++, w1t += m1 * M0, w2t += m1 * M2, xx += xx_step, yx += yx_step) {
    const REAL eta = etas[run];
    if (eta == 0) continue;
    fetch<M0>(w1, P0, m1, 1, P0, w1t, m1), fetch<M2>(w2, P2, m1, 1, P2, w2t, m1);
    for (long t = 0; t < count; t++) step(w1, w2, change, w, c, ct, xx, yx, m1, eta);
    put<M0>(w1, 1, P0, w1t, m1), put<M2>(w2, 1, P2, w2t, m1);
  }
}
