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
// Sums of D neighbours of a and of b, in turns; for D = 1: a0 + a1, b0 + b1, a2 + a3, ...
template <int D, int... I> INLINE vec merged(vec a, vec b, std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(a, b, (I / D % 2 ? L - D : 0) + I...) +
         __builtin_shufflevector(a, b, (I / D % 2 ? L - D : 0) + I + D...);
}
INLINE quad totals(const vec (&s)[U]) {  // the sums over lanes of four vectors
  constexpr std::make_integer_sequence<int, L> lanes;
  vec a = merged<1>(s[0], s[1], lanes), b = merged<1>(s[2], s[3], lanes);
  if (L == 2) return quad{a[0], a[1], b[0], b[1]};
  a = merged<L == 2 ? 1 : 2>(a, b, lanes);
  quad sum = {};
  UNROLL for (int i = 0; i < L; i += U) sum += quad{a[i], a[i + 1], a[i + 2], a[i + 3]};
  return sum;
}

struct Net : Run {  // weights (M, units) in columns of units, rows of h and p `row` apart, residuals by vectors of samples
  long units, row;
  REAL *w1, *w2, *h, *p, *r;
  Net(const Arguments *A, long run) : Run(A, run), units(up(m1, U)), row(padded) {
    while (row * sizeof(REAL) / WIDTH % 8 == 0) row += L;  // columns of h must not share a set of the cache
    w1 = A->work + run * size(), w2 = w1 + up(M0 * units, L), h = w2 + up(M2 * units, L);  // vectors aligned
    p = h + units * row, r = p + U * row;
  }
  long size() const { return up(M0 * units, L) + up(M2 * units, L) + (units + U) * row + M2 * padded; }
  void begin() { fetch<M0>(w1, M0, units, units, 1, given1, m1), fetch<M2>(w2, M2, units, units, 1, given2, m1); }
  void end() { put<M0>(w1, units, 1, given1, m1), put<M2>(w2, units, 1, given2, m1); }
};

template <int LEFT, int T> INLINE void outputs_of(Net q, const REAL *w2, const REAL *h, REAL *f) {
  constexpr int K = part(LEFT, OUTPUTS);
  vec s[K][T] = {};
  product<K, T>(s, q.m1, w2, 1, q.units, h, q.row, L);
  UNROLL for (int k = 0; k < K; k++)
    UNROLL for (int t = 0; t < T; t++) store(f + k * q.padded + t * L, s[k][t]);
  if constexpr (LEFT > K) outputs_of<LEFT - K, T>(q, w2 + K * q.units, h, f + K * q.padded);
}
template <int T> INLINE void ahead(Net q, long j) {  // T vectors of samples
  for (long i = 0; i < q.units; i += U) {
    vec s[U][T] = {};
    product<U, T>(s, M0, q.w1 + i, q.units, 1, q.x + j * M0, L, M0 * L);
    UNROLL for (int u = 0; u < U; u++)
      UNROLL for (int t = 0; t < T; t++) store(q.h + (i + u) * q.row + j + t * L, bend(s[u][t], s[u][t], q.slope));
  }
  outputs_of<M2, T>(q, q.w2, q.h + j, q.f + j);
}
static void forward(Net q) {
  long j = 0;
  for (; j + 2 * L <= q.padded; j += 2 * L) ahead<2>(q, j);
  if (j < q.padded) ahead<1>(q, j);
}

template <int T> INLINE void back(Net q, long i, long j) {
  vec s[U][T] = {};
  product<U, T>(s, M2, q.w2 + i, q.units, 1, q.r + j * M2, L, M2 * L);
  UNROLL for (int u = 0; u < U; u++)
    UNROLL for (int t = 0; t < T; t++)
      store(q.p + u * q.row + j + t * L, bend(load(q.h + (i + u) * q.row + j + t * L), s[u][t], q.slope));
}
// w[k][0..3] -= sum over samples of a[0..3] b[k]: K vectors of b at a time meet four rows of a.
// Never inlined: it needs all registers.
template <int LEFT> static __attribute__((noinline)) void subtract(Net q, REAL *w, const REAL *a, const REAL *b, long width) {
  constexpr int K = part(LEFT, SUMS);
  vec s[K][U] = {};
  for (long j = 0; j < q.padded; j += L) {
    vec x[K];
    UNROLL for (int k = 0; k < K; k++) x[k] = held(b + j * width + k * L);
    UNROLL for (int u = 0; u < U; u++) {
      vec h = held(a + u * q.row + j);
      UNROLL for (int k = 0; k < K; k++) s[k][u] += h * x[k];
    }
  }
  UNROLL for (int k = 0; k < K; k++) *(quad *)(w + k * q.units) -= totals(s[k]);
  if constexpr (LEFT > K) subtract<LEFT - K>(q, w + K * q.units, a, b + K * L, width);
}
static void step(Net q, bool fresh) {
  if (!fresh) forward(q);
  residuals(q, q.r, L, M2 * L);
  for (long i = 0, j; i < q.units; i += U) {
    for (j = 0; j + 2 * L <= q.padded; j += 2 * L) back<2>(q, i, j);
    if (j < q.padded) back<1>(q, i, j);
    subtract<M2>(q, q.w2 + i, q.h + i * q.row, q.r, M2);
    subtract<M0>(q, q.w1 + i, q.p, q.x, M0);
  }
}

extern "C" long lanes() { return L; }
extern "C" long room(long runs, long m1, long n) {
  const REAL eta = 0;
  Arguments A = {};
  A.m1 = m1, A.n = n, A.eta = &eta;
  return runs * Net(&A, 0).size();
}
extern "C" void outputs(const Arguments *A) { all_outputs<Net>(A); }
extern "C" void steps(const Arguments *A, long count, long fresh) { all_steps<Net>(A, count, fresh); }
