// Included by both kernels in C++, whatever the net.
// Vectors as wide as the machine's registers, products held in registers, weights fetched and put back.
// Sums are reordered by hand alone (no -ffast-math), so that infinities and NaN stay what they are.
#include <cmath>
#include <cstdlib>
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
// s[r][v] += sum_k a[k ak + r ar] b[k bk + v L], both dimensions of s in registers.
template <int R, int V>
INLINE void product(vec (&s)[R][V], long length, const REAL *a, long ak, long ar, const REAL *b, long bk) {
  FOUR_TIMES for (long k = 0; k < length; k++) {
    vec x[V];
    UNROLL for (int v = 0; v < V; v++) x[v] = held(b + k * bk + v * L);
    UNROLL for (int r = 0; r < R; r++)
      UNROLL for (int v = 0; v < V; v++) s[r][v] += a[k * ak + r * ar] * x[v];
  }
}

struct Memory {  // of a call, aligned like the widest vectors
  REAL *start;
  Memory(long numbers) : start((REAL *)std::aligned_alloc(64, up(numbers * sizeof(REAL), 64))) {}
  ~Memory() { std::free(start); }
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
extern "C" long lanes() { return L; }
