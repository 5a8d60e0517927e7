// Chosen by native.py for ReLU and leaky ReLU nets.
// Gradient descent on f = W2 sigma(W1 X) for many runs, sigma(z) = z for z > 0, else slope z, slope >= 0.
// Built for one shape: -DM0= -DM2= -DREAL= -DLEAKY=. Four units at a time; no matrix is read twice from afar:
//   H = sigma(W1 X), f = W2 H by tiles of samples;  P = sigma'(H) * W2' R, W1 -= P X', W2' -= H R' by units.
#include "vectors.hpp"
constexpr int U = 4, SUMS = REGISTERS / 5, OUTPUTS = REGISTERS / 3;
typedef REAL quad __attribute__((vector_size(U * sizeof(REAL)), aligned(sizeof(REAL)), may_alias));

INLINE vec bend(vec sign, vec v, [[maybe_unused]] REAL slope) {  // NaN stays NaN, and relu(-inf) is 0
#if LEAKY
  return sign <= 0 ? slope * v : v;
#else
  return sign <= 0 ? vec{} : v;
#endif
}
#define MIX __builtin_shufflevector
template <int N = L> INLINE quad four(vec v) {  // sums of every fourth lane
  if constexpr (N == 2) return quad{v[0], v[1]};
  else {
    quad s = MIX(v, v, N - 4, N - 3, N - 2, N - 1);
    if constexpr (N >= 8) s += MIX(v, v, N - 8, N - 7, N - 6, N - 5);
    if constexpr (N == 16) s += MIX(v, v, N - 12, N - 11, N - 10, N - 9) + MIX(v, v, N - 16, N - 15, N - 14, N - 13);
    return s;
  }
}
INLINE quad totals(const vec (&s)[U]) {  // the sums over lanes of four vectors
  quad a = four(s[0]), b = four(s[1]), c = four(s[2]), d = four(s[3]);
  a = MIX(a, b, 0, 4, 2, 6) + MIX(a, b, 1, 5, 3, 7);
  c = MIX(c, d, 0, 4, 2, 6) + MIX(c, d, 1, 5, 3, 7);
  return MIX(a, c, 0, 1, 4, 5) + MIX(a, c, 2, 3, 6, 7);
}

struct Net {  // one run: weights (M, units) in columns of units, rows of h and p `row` apart, residuals
  REAL *w1, *w2, *h, *p, *r, *f;
  long units, row, padded;
  Net(const Arguments &A, long run) : units(up(A.m1, U)), row(up(A.n, L)), padded(row) {
    while (row * sizeof(REAL) / WIDTH % 8 == 0) row += L;  // columns of h must not share a set of the cache
    w1 = A.work + run * size(), w2 = w1 + M0 * units, h = w2 + M2 * units;
    p = h + units * row, r = p + U * row, f = A.f + run * M2 * padded;
  }
  long size() const { return units * (M0 + M2 + row) + U * row + M2 * padded; }
};
template <int M> static void fetch(REAL *own, long units, const REAL *w, long m1) {
  for (long i = 0; i < units; i++)
    for (int k = 0; k < M; k++) own[k * units + i] = i < m1 ? w[i * M + k] : 0;
}
template <int M> static void put(const REAL *own, long units, REAL *w, long m1) {
  for (long i = 0; i < m1; i++)
    for (int k = 0; k < M; k++) w[i * M + k] = own[k * units + i];
}

template <int LEFT, int T> INLINE void outputs_of(const Net &q, const REAL *w2, const REAL *h, REAL *f) {
  constexpr int K = part(LEFT, OUTPUTS);
  vec s[K][T] = {};
  product<K, T>(s, q.units, w2, 1, q.units, h, q.row, L);
  UNROLL for (int k = 0; k < K; k++)
    UNROLL for (int t = 0; t < T; t++) store(f + k * q.padded + t * L, s[k][t]);
  if constexpr (LEFT > K) outputs_of<LEFT - K, T>(q, w2 + K * q.units, h, f + K * q.padded);
}
template <int T> INLINE void ahead(const Net &q, const REAL *x, long j, REAL slope) {  // T vectors of samples
  for (long i = 0; i < q.units; i += U) {
    vec s[U][T] = {};
    product<U, T>(s, M0, q.w1 + i, q.units, 1, x + j * M0, L, M0 * L);
    UNROLL for (int u = 0; u < U; u++)
      UNROLL for (int t = 0; t < T; t++) store(q.h + (i + u) * q.row + j + t * L, bend(s[u][t], s[u][t], slope));
  }
  outputs_of<M2, T>(q, q.w2, q.h + j, q.f + j);
}
static void forward(const Net &q, const REAL *x, REAL slope) {
  long j = 0;
  for (; j + 2 * L <= q.padded; j += 2 * L) ahead<2>(q, x, j, slope);
  if (j < q.padded) ahead<1>(q, x, j, slope);
}

template <int T> INLINE void back(const Net &q, long i, long j, REAL slope) {
  vec s[U][T] = {};
  product<U, T>(s, M2, q.w2 + i, q.units, 1, q.r + j * M2, L, M2 * L);
  UNROLL for (int u = 0; u < U; u++)
    UNROLL for (int t = 0; t < T; t++)
      store(q.p + u * q.row + j + t * L, bend(load(q.h + (i + u) * q.row + j + t * L), s[u][t], slope));
}
// w[k][0..3] -= sum over samples of a[0..3] b[k]: K vectors of b at a time meet four rows of a.
template <int K> static void subtract(const Net &q, REAL *w, const REAL *a, const REAL *b, long width) {
  vec s[K][U] = {};
  for (long j = 0; j < q.padded; j += L) {
    vec x[K];
    UNROLL for (int k = 0; k < K; k++) x[k] = held(b + j * width + k * L);
    UNROLL for (int u = 0; u < U; u++) {
      vec h = load(a + u * q.row + j);
      UNROLL for (int k = 0; k < K; k++) s[k][u] += h * x[k];
    }
  }
  UNROLL for (int k = 0; k < K; k++) *(quad *)(w + k * q.units) -= totals(s[k]);
}
template <int LEFT> INLINE void subtract_all(const Net &q, REAL *w, const REAL *a, const REAL *b, long width) {
  constexpr int K = part(LEFT, SUMS);
  subtract<K>(q, w, a, b, width);
  if constexpr (LEFT > K) subtract_all<LEFT - K>(q, w + K * q.units, a, b + K * L, width);
}
static void backward(const Net &q, const REAL *x, REAL slope) {
  for (long i = 0, j; i < q.units; i += U) {
    for (j = 0; j + 2 * L <= q.padded; j += 2 * L) back<2>(q, i, j, slope);
    if (j < q.padded) back<1>(q, i, j, slope);
    subtract_all<M2>(q, q.w2 + i, q.h + i * q.row, q.r, M2);
    subtract_all<M0>(q, q.w1 + i, q.p, x, M0);
  }
}

extern "C" long lanes() { return L; }
extern "C" long room(long runs, long m1, long n) {
  Arguments A = {};
  A.m1 = m1, A.n = n;
  return runs * Net(A, 0).size();
}
extern "C" void outputs(const Arguments *A) {
  for (long run = 0; run < A->runs; run++) {
    Net q(*A, run);
    fetch<M0>(q.w1, q.units, A->w1 + run * A->m1 * M0, A->m1);
    fetch<M2>(q.w2, q.units, A->w2t + run * A->m1 * M2, A->m1);
    forward(q, A->x + run * A->x_step, A->slope);
  }
}
// fresh: f and h are those of the current weights already (and f holds l' where the loss is GIVEN).
extern "C" void steps(const Arguments *A, long count, long fresh) {
  for (long run = 0; run < A->runs; run++) {
    if (A->eta[run] == 0) continue;
    Net q(*A, run);
    const REAL *x = A->x + run * A->x_step;
    REAL *w1 = A->w1 + run * A->m1 * M0, *w2 = A->w2t + run * A->m1 * M2;
    fetch<M0>(q.w1, q.units, w1, A->m1);
    fetch<M2>(q.w2, q.units, w2, A->m1);
    for (long t = 0; t < count; t++) {
      if (t || !fresh) forward(q, x, A->slope);
      residuals(*A, run, q.f, q.r, L, M2 * L);
      backward(q, x, A->slope);
    }
    put<M0>(q.w1, q.units, w1, A->m1);
    put<M2>(q.w2, q.units, w2, A->m1);
  }
}
