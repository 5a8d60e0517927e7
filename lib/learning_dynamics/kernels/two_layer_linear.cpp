// Chosen by native.py for linear nets.
// Gradient descent on f = W2 W1 X for many runs, through W = W2 W1: C = eta R X', then both from the old
// weights W2' -= W1 C', W1 -= W2' C. Built for one shape: -DM0= -DM2= -DREAL=.
// Rows of a run's weights are padded to whole vectors; all of a run fits the fastest cache.
// MOMENTS, the squared loss: xt holds X X' and y holds Y X', so that C = eta (W X X' - Y X').
#include "vectors.hpp"
constexpr int P0 = up(M0, L), P2 = up(M2, L), COLUMNS = REGISTERS / 3, ACROSS = REGISTERS / 4;

template <int R, int V, bool LESS>
static void rows(REAL *c, long ck, long count, long length, const REAL *a, long ak, long ar, const REAL *b, long bk) {
  long i = 0;
  for (; i + R <= count; i += R) {
    vec s[R][V] = {};
    product<R, V>(s, length, a + i * ar, ak, ar, b, bk, L);
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

struct Net : Run {
  REAL *w1, *w2, *change, *w, *c, *ct;
  Net(const Arguments *A, long run) : Run(A, run) {
    w1 = A->work, w2 = w1 + m1 * P0, change = w2 + m1 * P2, w = change + m1 * P2, c = w + M2 * P0, ct = c + M2 * P0;
  }
  void begin() { fetch<M0>(w1, P0, m1, 1, P0, given1, m1), fetch<M2>(w2, P2, m1, 1, P2, given2, m1); }
  void end() { put<M0>(w1, 1, P0, given1, m1), put<M2>(w2, 1, P2, given2, m1); }
};
static void product_of(Net q) { multiply<P0 / L>(q.w, P0, M2, q.m1, q.w2, P2, 1, q.w1, P0); }
static void forward(Net q) {
  product_of(q);
  long j = 0;
  for (; j + ACROSS * L <= q.padded; j += ACROSS * L) multiply<ACROSS>(q.f + j, q.padded, M2, M0, q.w, 1, P0, q.x + j, q.padded);
  for (; j < q.padded; j += L) multiply<1>(q.f + j, q.padded, M2, M0, q.w, 1, P0, q.x + j, q.padded);
}
static void step(Net q, bool fresh) {
  if (q.A->loss == MOMENTS) {
    product_of(q);
    multiply<P0 / L>(q.c, P0, M2, M0, q.w, 1, P0, q.xt, P0);
    for (int k = 0; k < M2 * P0; k += L) store(q.c + k, q.eta * (load(q.c + k) - load(q.y + k)));
  } else {
    if (!fresh) forward(q);
    residuals(q, q.f, q.padded, L);
    multiply<P0 / L>(q.c, P0, M2, q.n, q.f, 1, q.padded, q.xt, P0);
  }
  for (int b = 0; b < M0; b++)
    for (int a = 0; a < P2; a++) q.ct[b * P2 + a] = a < M2 ? q.c[a * P0 + b] : 0;
  multiply<P2 / L>(q.change, P2, q.m1, M0, q.w1, 1, P0, q.ct, P2);
  multiply<P0 / L, true>(q.w1, P0, q.m1, M2, q.w2, 1, P2, q.c, P0);
  for (long k = 0; k < q.m1 * P2; k += L) store(q.w2 + k, load(q.w2 + k) - load(q.change + k));
}

extern "C" long lanes() { return L; }
extern "C" long room(long, long m1, long) { return m1 * (P0 + 2 * P2) + 2 * M2 * P0 + M0 * P2; }
extern "C" void outputs(const Arguments *A) { all_outputs<Net>(A); }
extern "C" void steps(const Arguments *A, long count, long fresh) { all_steps<Net>(A, count, fresh); }
