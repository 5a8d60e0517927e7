// Included by both kernels in C++, whatever the net.
// Vectors as wide as the machine's registers, products held in registers, residuals of the losses.
// Sums are reordered by hand alone (no -ffast-math), so that infinities and NaN stay what they are.
#include <cmath>
#include <cstddef>

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

// s[r][v] += sum_k a[k ak + r ar] b[k bk + v bv], both dimensions of s in registers.
template <int R, int V>
INLINE void product(vec (&s)[R][V], long length, const REAL *a, long ak, long ar, const REAL *b, long bk, long bv) {
  for (long k = 0; k < length; k++) {
    vec x[V];
    UNROLL for (int v = 0; v < V; v++) x[v] = held(b + k * bk + v * bv);
    UNROLL for (int r = 0; r < R; r++)
      UNROLL for (int v = 0; v < V; v++) s[r][v] += a[k * ak + r * ar] * x[v];
  }
}

INLINE vec exponential(vec v) {
  for (int i = 0; i < L; i++) v[i] = std::exp(v[i]);
  return v;
}
// r = eta l'(f) for the outputs f of one run; entry k of vector j of r lies at k rk + j rj.
static void residuals(const Arguments &A, long run, const REAL *f, REAL *r, long rk, long rj) {
  const long padded = up(A.n, L);
  const REAL eta = A.eta[run], limit = A.parameter;
  const REAL *y = A.y + run * A.y_step, *omega = A.omega + run * A.omega_step;
  for (long j = 0; j * L < padded; j++, f += L, y += L, r += rj) {
    vec most = load(f), whole = {}, labels = {};
    if (A.loss == CROSS_ENTROPY) {
      for (long k = 1; k < M2; k++) { vec u = load(f + k * padded); most = u > most ? u : most; }
      for (long k = 0; k < M2; k++) {
        whole += exponential(load(f + k * padded) - most);
        labels += load(y + k * padded);
      }
    }
    for (long k = 0; k < M2; k++) {
      vec v = load(f + k * padded);
      if (A.loss != GIVEN) {
        const vec target = load(y + k * padded), difference = v - target;
        switch (A.loss) {
          case SQUARED: v = difference; break;
          case WEIGHTED: v = load(omega + k * padded + j * L) * difference; break;
          case HUBER: v = difference > limit ? limit + vec{} : difference < -limit ? vec{} - limit : difference; break;
          case LOGISTIC: v = -target / (1 + exponential(target * v)); break;
          case CROSS_ENTROPY: v = labels * (exponential(v - most) / whole) - target; break;
        }
      }
      v *= eta;
      for (long i = L - 1; j * L + i >= A.n; i--) v[i] = 0;
      store(r + k * rk, v);
    }
  }
}
