// Included by both kernels in C++, whatever the net.
// Vectors as wide as the machine's registers, products held in registers, residuals of the losses, the runs' loop.
// Sums are reordered by hand alone (no -ffast-math), so that infinities and NaN stay what they are.
#include <cmath>
#include <utility>

#if defined(__AVX512F__)
#define REGISTER 64
#elif defined(__AVX__)
#define REGISTER 32
#else
#define REGISTER 16
#endif
#ifndef WIDTH  // bytes of a vector; a test sets more than the machine has
#define WIDTH REGISTER
#endif
constexpr int REGISTERS = WIDTH == 64 ? 32 : 16;
constexpr int L = WIDTH / sizeof(REAL);  // lanes: numbers in a vector
typedef REAL vec __attribute__((vector_size(WIDTH), aligned(sizeof(REAL)), may_alias));
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 32")
#define FOUR_TIMES _Pragma("GCC unroll 4")

constexpr long up(long n, long m) { return (n + m - 1) / m * m; }
// The size of the first of the fewest, nearly equal parts of n, each at most `most`.
constexpr int part(int n, int most) { int parts = (n + most - 1) / most; return (n + parts - 1) / parts; }
INLINE vec load(const REAL *p) { return *(const vec *)p; }
INLINE void store(REAL *p, vec v) { *(vec *)p = v; }
INLINE vec held(const REAL *p) {  // a load that the compiler does not repeat at every use
  vec v = load(p);
#if defined(__x86_64__) && WIDTH == REGISTER
  asm("" : "+v"(v));
#endif
  return v;
}
// s[r][v] += sum_k a[k ak + r ar] b[k bk + v bv], both dimensions of s in registers.
template <int R, int V>
INLINE void product(vec (&s)[R][V], long length, const REAL *a, long ak, long ar, const REAL *b, long bk, long bv) {
  FOUR_TIMES for (long k = 0; k < length; k++) {
    vec x[V];
    UNROLL for (int v = 0; v < V; v++) x[v] = held(b + k * bk + v * bv);
    UNROLL for (int r = 0; r < R; r++)
      UNROLL for (int v = 0; v < V; v++) s[r][v] += a[k * ak + r * ar] * x[v];
  }
}

// One call: `runs` nets of m1 units, n samples. A step is the distance from one run's numbers to the
// next (0: shared). Weights are w1 (m1, M0) and w2t (m1, M2); eta is 0 where a run is frozen.
// Padded samples, up to whole vectors, are copies of the last one; their residuals are zero.
enum { GIVEN, SQUARED, WEIGHTED, HUBER, LOGISTIC, CROSS_ENTROPY, MOMENTS };
struct Arguments {
  REAL *w1, *w2t, *f, *work;
  const REAL *eta, *x, *xt, *y, *omega;
  long runs, m1, n, x_step, xt_step, y_step, omega_step, loss;
  double parameter, slope;
};
struct Run {  // the numbers of one run; handed on by value: a store could change what a reference leads to
  const Arguments *A;
  long m1, n, padded;
  REAL eta, slope, *given1, *given2, *f;
  const REAL *x, *xt, *y, *omega;
  Run(const Arguments *a, long r) : A(a), m1(a->m1), n(a->n), padded(up(n, L)), eta(a->eta[r]), slope(a->slope) {
    given1 = a->w1 + r * m1 * M0, given2 = a->w2t + r * m1 * M2, f = a->f + r * M2 * padded;
    x = a->x + r * a->x_step, xt = a->xt + r * a->xt_step, y = a->y + r * a->y_step, omega = a->omega + r * a->omega_step;
  }
};
// Entry (k, i), i < units, k < rows, of a kernel's own weights lies at k ks + i is; zero beyond the given m1, M.
template <int M> void fetch(REAL *own, long rows, long units, long ks, long is, const REAL *given, long m1) {
  for (long i = 0; i < units; i++)
    for (long k = 0; k < rows; k++) own[k * ks + i * is] = i < m1 && k < M ? given[i * M + k] : 0;
}
template <int M> void put(const REAL *own, long ks, long is, REAL *given, long m1) {
  for (long i = 0; i < m1; i++)
    for (long k = 0; k < M; k++) given[i * M + k] = own[k * ks + i * is];
}
// A kernel is a Net: a Run with begin(), end(), and forward(), step(fresh: whether f is that of the weights).
template <typename Net> void all_outputs(const Arguments *A) {
  for (long run = 0; run < A->runs; run++) {
    Net q(A, run);
    q.begin();
    forward(q);
  }
}
// fresh: the outputs are those of the current weights already (and f holds l' where the loss is GIVEN).
template <typename Net> void all_steps(const Arguments *A, long count, bool fresh) {
  for (long run = 0; run < A->runs; run++) {
    Net q(A, run);
    if (q.eta == 0) continue;
    q.begin();
    for (long t = 0; t < count; t++) step(q, fresh && !t);
    q.end();
  }
}

INLINE vec exponential(vec v) {
  for (int i = 0; i < L; i++) v[i] = std::exp(v[i]);
  return v;
}
// r = eta l'(f), padded samples zero; entry k of vector j of r lies at k rk + j rj. `residual` is told
// where its vector begins in f.
template <typename F> INLINE void each(Run q, REAL *r, long rk, long rj, F residual) {
  for (long j = 0; j < q.padded / L; j++)
    for (long k = 0; k < M2; k++) {
      const long at = k * q.padded + j * L;
      store(r + k * rk + j * rj, q.eta * residual(load(q.f + at), at));
    }
  for (long k = 0; k < M2; k++)
    for (long i = q.n; i < q.padded; i++) r[k * rk + i / L * rj + i % L] = 0;
}
static void residuals(Run q, REAL *r, long rk, long rj) {
  const REAL limit = q.A->parameter;
  vec most, whole, labels;
  auto all = [&](auto residual) { each(q, r, rk, rj, residual); };
  switch (q.A->loss) {
    case GIVEN: return all([](vec f, long) { return f; });
    case SQUARED: return all([=](vec f, long at) { return f - load(q.y + at); });
    case WEIGHTED: return all([=](vec f, long at) { return load(q.omega + at) * (f - load(q.y + at)); });
    case HUBER: return all([=](vec f, long at) {
      const vec u = f - load(q.y + at);
      return u > limit ? limit + vec{} : u < -limit ? vec{} - limit : u;
    });
    case LOGISTIC: return all([=](vec f, long at) { return -load(q.y + at) / (1 + exponential(load(q.y + at) * f)); });
    case CROSS_ENTROPY: return all([&](vec f, long at) {
      if (at < q.padded) {  // a new vector of samples
        most = f, whole = labels = vec{};
        for (long k = 1; k < M2; k++) { vec u = load(q.f + k * q.padded + at); most = u > most ? u : most; }
        for (long k = 0; k < M2; k++) {
          whole += exponential(load(q.f + k * q.padded + at) - most);
          labels += load(q.y + k * q.padded + at);
        }
      }
      return labels * (exponential(f - most) / whole) - load(q.y + at);
    });
  }
}
