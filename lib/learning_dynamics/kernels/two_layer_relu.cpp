// Chosen by native.py for ReLU and leaky ReLU nets, and for linear ones with other losses than the squared one.
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
// One run, handed on by value: a store could change what a reference leads to. Rows of samples are `row` apart,
// `end` numbers of them count: the n samples, then copies of the last one up to a whole vector, whose residuals
// are zero. Weights (M, units) are in columns of units.
struct Net {
  long m1, units, n, end, row, loss;
  REAL eta, slope, limit, *w1, *w2, *h, *p, *f;
  const REAL *x, *y, *omega;
};

template <int LEFT, int T> INLINE void outputs_of(Net q, const REAL *w2, const REAL *h, REAL *f) {
  constexpr int K = part(LEFT, OUTPUTS);
  vec s[K][T] = {};
  product<K, T>(s, q.m1, w2, 1, q.units, h, q.row);
  UNROLL for (int k = 0; k < K; k++)
    UNROLL for (int t = 0; t < T; t++) store(f + k * q.row + t * L, s[k][t]);
  if constexpr (LEFT > K) outputs_of<LEFT - K, T>(q, w2 + K * q.units, h, f + K * q.row);
}
template <int T> INLINE void ahead(Net q, long j) {  // T vectors of samples
  for (long i = 0; i < q.units; i += U) {
    vec s[U][T] = {};
    product<U, T>(s, M0, q.w1 + i, q.units, 1, q.x + j, q.row);
    UNROLL for (int u = 0; u < U; u++)
      UNROLL for (int t = 0; t < T; t++) store(q.h + (i + u) * q.row + j + t * L, bend(s[u][t], s[u][t], q.slope));
  }
  outputs_of<M2, T>(q, q.w2, q.h + j, q.f + j);
}

INLINE vec exponential(vec v) {
  for (int i = 0; i < L; i++) v[i] = std::exp(v[i]);
  return v;
}
// f <- eta l'(f), padded samples zero. `residual` is told where its vector begins in f.
template <typename F> INLINE void each(Net q, F residual) {
  for (long j = 0; j < q.end; j += L)
    for (long at = j; at < M2 * q.row; at += q.row) store(q.f + at, q.eta * residual(load(q.f + at), at));
  for (long k = 0; k < M2; k++)
    for (long i = q.n; i < q.end; i++) q.f[k * q.row + i] = 0;
}
enum { SQUARED, WEIGHTED, HUBER, LOGISTIC, CROSS_ENTROPY };
static void residuals(Net q) {
  vec most, whole, labels;
  switch (q.loss) {
    case SQUARED: return each(q, [=](vec f, long at) { return f - load(q.y + at); });
    case WEIGHTED: return each(q, [=](vec f, long at) { return load(q.omega + at) * (f - load(q.y + at)); });
    case HUBER: return each(q, [=](vec f, long at) {
      const vec u = f - load(q.y + at);
      return u > q.limit ? q.limit + vec{} : u < -q.limit ? vec{} - q.limit : u;
    });
    case LOGISTIC: return each(q, [=](vec f, long at) { return -load(q.y + at) / (1 + exponential(load(q.y + at) * f)); });
    case CROSS_ENTROPY: return each(q, [&](vec f, long at) {
      if (at < q.row) {  // a new vector of samples
        most = f, whole = labels = vec{};
        for (long k = at + q.row; k < M2 * q.row; k += q.row) most = load(q.f + k) > most ? load(q.f + k) : most;
        for (long k = at; k < M2 * q.row; k += q.row) whole += exponential(load(q.f + k) - most), labels += load(q.y + k);
      }
      return labels * (exponential(f - most) / whole) - load(q.y + at);
    });
  }
}

template <int T> INLINE void back(Net q, long i, long j) {
  vec s[U][T] = {};
  product<U, T>(s, M2, q.w2 + i, q.units, 1, q.f + j, q.row);
  UNROLL for (int u = 0; u < U; u++)
    UNROLL for (int t = 0; t < T; t++)
      store(q.p + u * q.row + j + t * L, bend(load(q.h + (i + u) * q.row + j + t * L), s[u][t], q.slope));
}
// w[k][0..3] -= sum over samples of a[0..3] b[k]: K rows of b at a time meet four rows of a.
// Never inlined: it needs all registers.
template <int LEFT> static __attribute__((noinline)) void subtract(Net q, REAL *w, const REAL *a, const REAL *b) {
  constexpr int K = part(LEFT, SUMS);
  vec s[K][U] = {};
  for (long j = 0; j < q.end; j += L) {
    vec x[K];
    UNROLL for (int k = 0; k < K; k++) x[k] = held(b + k * q.row + j);
    UNROLL for (int u = 0; u < U; u++) {
      vec h = held(a + u * q.row + j);
      UNROLL for (int k = 0; k < K; k++) s[k][u] += h * x[k];
    }
  }
  UNROLL for (int k = 0; k < K; k++) *(quad *)(w + k * q.units) -= totals(s[k]);
  if constexpr (LEFT > K) subtract<LEFT - K>(q, w + K * q.units, a, b + K * q.row);
}
static void step(Net q) {
  long i, j;
  for (j = 0; j + 2 * L <= q.end; j += 2 * L) ahead<2>(q, j);
  if (j < q.end) ahead<1>(q, j);
  residuals(q);
  for (i = 0; i < q.units; i += U) {
    for (j = 0; j + 2 * L <= q.end; j += 2 * L) back<2>(q, i, j);
    if (j < q.end) back<1>(q, i, j);
    subtract<M2>(q, q.w2 + i, q.h + i * q.row, q.f);
    subtract<M0>(q, q.w1 + i, q.p, q.x);
  }
}

// Weights are w1 (m1, M0) and w2t (m1, M2) of each run; x, y and omega have rows of `row` samples, steps are the
// distances from one run's to the next (0: shared); eta is 0 where a run is frozen.
extern "C" void steps(REAL *w1t, REAL *w2t, const REAL *eta, const REAL *x, const REAL *y, const REAL *omega, long x_step,
                      long y_step, long omega_step, long runs, long m1, long n, long row, long loss, double limit,
                      double slope, long count) {
  const long units = up(m1, U), size1 = up(M0 * units, L), size2 = up(M2 * units, L);  // vectors aligned
  Memory memory(size1 + size2 + (units + U + M2) * row);
  REAL *w1 = memory.start, *w2 = w1 + size1, *h = w2 + size2, *p = h + units * row;
  Net q = {m1, units, n, up(n, L), row, loss, 0, REAL(slope), REAL(limit), w1, w2, h, p, p + U * row, x, y, omega};
  for (long run = 0; run < runs; run++, w1t += m1 * M0, w2t += m1 * M2, q.x += x_step, q.y += y_step, q.omega += omega_step) {
    q.eta = eta[run];
    if (q.eta == 0) continue;
    fetch<M0>(w1, M0, units, units, 1, w1t, m1), fetch<M2>(w2, M2, units, units, 1, w2t, m1);
    for (long t = 0; t < count; t++) step(q);
    put<M0>(w1, units, 1, w1t, m1), put<M2>(w2, units, 1, w2t, m1);
  }
}
