/* Functions with bounded error on vectors, the same bits on every machine with a fused multiply-add; after ew_vector.h.
 *
 * No function of libm is called and no approximate instruction is used. NaN arguments give NaN. Errors are the largest
 * found over samples of all exponents against float64 (tests/compiler/native/test_math.py), in units of the last place
 * (ulp) of normal results:
 *
 *   exp 1, log 1, tanh 2.5, sigmoid 2.5, erf 1.5, softplus 2.5, pow 1, sin and cos 1.5 for |x| <= 2^20; rsqrt 1.5;
 *   floor, ceil, trunc, round_even, sign, fmod exact; reciprocal rounds once.
 *
 * sigmoid is 0 below -88.73. sin and cos of |x| > 2^20 are NaN: their argument is not reduced that far.
 * min and max (ew_vector.h) give their first argument where the two do not compare: max(x, 0) keeps a NaN in x.
 *
 * The file includes itself once per number of lanes.
 */
#ifndef EW_LANES
#ifndef EW_MATH_H
#define EW_MATH_H
#include "ew_vector.h"

#define EW_PASTE2(a, b) a##b
#define EW_PASTE(a, b) EW_PASTE2(a, b)
#define EW_F32 EW_PASTE(f32x, EW_LANES)
#define EW_S32 EW_PASTE(s32x, EW_LANES)
#define EW_F64 EW_PASTE(ew_f64x, EW_LANES)
#define EW_S64 EW_PASTE(ew_s64x, EW_LANES)
/* ew_NAME_f32xLANES, ew_NAME_s32xLANES */
#define EW_F(name) EW_PASTE(ew_##name##_f32x, EW_LANES)
#define EW_I(name) EW_PASTE(ew_##name##_s32x, EW_LANES)
#define EW_SPLAT(s) EW_F(splat)(s)
#define EW_CONVERT(v, type) __builtin_convertvector(v, type)

/* The remainder that C's fmod gives: every step subtracts a multiple of y that fits 53 bits, so that none rounds. */
EW_INLINE float ew_fmod_scalar(float x, float y) {
    double rest = __builtin_fabs((double)x), by = __builtin_fabs((double)y);
    if (!(by > 0) || !(rest < __builtin_inf())) return __builtin_nanf("");
    while (rest >= by) {
        double step = by;
        while (step * 0x1p28 <= rest) step *= 0x1p28;
        rest -= (double)(int64_t)(rest / step) * step;
        if (rest < 0) rest += step;
    }
    return __builtin_copysignf((float)rest, x);
}

#define EW_LANES 4
#include "ew_math.h"
#undef EW_LANES
#if EW_MAX_LANES >= 8
#define EW_LANES 8
#include "ew_math.h"
#undef EW_LANES
#endif
#if EW_MAX_LANES >= 16
#define EW_LANES 16
#include "ew_math.h"
#undef EW_LANES
#endif

/* One number out of a vector, halves first: sums of 16, 8 and 4 lanes are taken in the same order. */
EW_INLINE f32x4 ew_low_f32x4(f32x4 v) { return (f32x4){v[2], v[3], v[2], v[3]}; }
EW_INLINE s32x4 ew_low_s32x4(s32x4 v) { return (s32x4){v[2], v[3], v[2], v[3]}; }
#define EW_TOTAL4(NAME, TYPE, OF, SCALAR)                                                                              \
    EW_INLINE SCALAR ew_total_##NAME##_##TYPE##x4(TYPE##x4 v) {                                                        \
        const TYPE##x4 pair = OF##x4(v, ew_low_##TYPE##x4(v));                                                         \
        return OF##x4(pair, (TYPE##x4){pair[1], pair[1], pair[1], pair[1]})[0];                                        \
    }
#define EW_TOTAL(NAME, TYPE, OF, SCALAR, N, HALF)                                                                      \
    EW_INLINE SCALAR ew_total_##NAME##_##TYPE##x##N(TYPE##x##N v) {                                                    \
        TYPE##x##HALF parts[2];                                                                                        \
        __builtin_memcpy(parts, &v, sizeof parts);                                                                     \
        return ew_total_##NAME##_##TYPE##x##HALF(OF##x##HALF(parts[0], parts[1]));                                     \
    }
#define EW_TOTALS(TOTAL, ...)                                                                                          \
    TOTAL(add, f32, ew_add_f32, float, ##__VA_ARGS__)                                                                  \
    TOTAL(mul, f32, ew_mul_f32, float, ##__VA_ARGS__)                                                                  \
    TOTAL(min, f32, ew_min_f32, float, ##__VA_ARGS__)                                                                  \
    TOTAL(max, f32, ew_max_f32, float, ##__VA_ARGS__)                                                                  \
    TOTAL(iadd, s32, ew_iadd_s32, int32_t, ##__VA_ARGS__)                                                              \
    TOTAL(imul, s32, ew_imul_s32, int32_t, ##__VA_ARGS__)                                                              \
    TOTAL(imin, s32, ew_imin_s32, int32_t, ##__VA_ARGS__)                                                              \
    TOTAL(imax, s32, ew_imax_s32, int32_t, ##__VA_ARGS__)
EW_TOTALS(EW_TOTAL4)
#if EW_MAX_LANES >= 8
EW_TOTALS(EW_TOTAL, 8, 4)
#endif
#if EW_MAX_LANES >= 16
EW_TOTALS(EW_TOTAL, 16, 8)
#endif

/* Four rows of four 32-bit elements become four columns; whatever the elements are, only bits are moved. */
#if defined(__clang__) || __GNUC__ >= 12
#define EW_PICK(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l)
#else
#define EW_PICK(a, b, i, j, k, l) __builtin_shuffle(a, b, (s32x4){i, j, k, l})
#endif
EW_INLINE void ew_transpose_4x4(const float *r0, const float *r1, const float *r2, const float *r3, float *c0, float *c1,
                                float *c2, float *c3) {
    const f32x4 a = ew_load_f32x4(r0), b = ew_load_f32x4(r1), c = ew_load_f32x4(r2), d = ew_load_f32x4(r3);
    const f32x4 ab = EW_PICK(a, b, 0, 4, 1, 5), cd = EW_PICK(c, d, 0, 4, 1, 5);
    const f32x4 ab2 = EW_PICK(a, b, 2, 6, 3, 7), cd2 = EW_PICK(c, d, 2, 6, 3, 7);
    ew_store_f32x4(c0, EW_PICK(ab, cd, 0, 1, 4, 5));
    ew_store_f32x4(c1, EW_PICK(ab, cd, 2, 3, 6, 7));
    ew_store_f32x4(c2, EW_PICK(ab2, cd2, 0, 1, 4, 5));
    ew_store_f32x4(c3, EW_PICK(ab2, cd2, 2, 3, 6, 7));
}

#endif
#else /* EW_LANES is given */

typedef double EW_F64 __attribute__((vector_size(8 * EW_LANES)));
typedef int64_t EW_S64 __attribute__((vector_size(8 * EW_LANES)));

EW_INLINE EW_F32 EW_F(with_sign)(EW_F32 magnitude, EW_F32 sign) {
    return (EW_F32)(((EW_S32)magnitude & 0x7fffffff) | ((EW_S32)sign & (int32_t)0x80000000));
}
EW_INLINE EW_F32 EW_F(rsqrt)(EW_F32 x) { return 1.0f / EW_F(sqrt)(x); }
EW_INLINE EW_F32 EW_F(reciprocal)(EW_F32 x) { return 1.0f / x; }
EW_INLINE EW_F32 EW_F(sign)(EW_F32 x) {
    return EW_F(select)((x < 0.0f) | (x > 0.0f), EW_F(with_sign)(EW_SPLAT(1), x), x);
}
EW_INLINE EW_S32 EW_I(imin)(EW_S32 a, EW_S32 b) { return EW_I(iselect)(a < b, a, b); }
EW_INLINE EW_S32 EW_I(imax)(EW_S32 a, EW_S32 b) { return EW_I(iselect)(a > b, a, b); }

/* Whole numbers. From 2^23 on there is nothing to round, and smaller numbers fit an integer. */
EW_INLINE EW_F32 EW_F(trunc)(EW_F32 x) {
    const EW_S32 small = EW_F(abs)(x) < 0x1p23f;
    const EW_F32 held = EW_F(select)(small, x, EW_SPLAT(0));
    const EW_F32 whole = EW_CONVERT(EW_CONVERT(held, EW_S32), EW_F32);
    return EW_F(select)(small, EW_F(with_sign)(whole, x), x);
}
EW_INLINE EW_F32 EW_F(round_even)(EW_F32 x) {
    const EW_F32 size = EW_F(abs)(x);
    const EW_F32 whole = (size + 0x1p23f) - 0x1p23f;
    return EW_F(select)(size < 0x1p23f, EW_F(with_sign)(whole, x), x);
}
EW_INLINE EW_F32 EW_F(floor)(EW_F32 x) {
    const EW_F32 whole = EW_F(trunc)(x);
    return EW_F(select)(whole > x, whole - 1.0f, whole);
}
EW_INLINE EW_F32 EW_F(ceil)(EW_F32 x) {
    const EW_F32 whole = EW_F(trunc)(x);
    return EW_F(select)(whole < x, EW_F(with_sign)(whole + 1.0f, x), whole);
}

/* x times 2^n, rounded once, for 0.5 < |x| < 2 and whole n from -150 to 129; i is n again. */
EW_INLINE EW_F32 EW_F(scale)(EW_F32 x, EW_F32 n, EW_S32 i) {
#if defined(__AVX512VL__) && EW_LANES == 16
    (void)i;
    return (EW_F32)_mm512_scalef_ps(x, n);
#elif defined(__AVX512VL__) && EW_LANES == 8
    (void)i;
    return (EW_F32)_mm256_scalef_ps(x, n);
#elif defined(__AVX512VL__) && EW_LANES == 4
    (void)i;
    return (EW_F32)_mm_scalef_ps(x, n);
#else
    (void)n;
    const EW_S32 half = i >> 1;
    return x * (EW_F32)((half + 127) << 23) * (EW_F32)((i - half + 127) << 23);
#endif
}

/* e^x = 2^n e^r, |r| <= ln(2) / 2: 1 + r + r^2 p(r), p of degree 4 fitted here for the least relative error (Lawson);
 * ln 2 in two parts as in Cephes' expf. */
EW_INLINE EW_F32 EW_F(exp)(EW_F32 x) {
    const EW_F32 held = EW_F(min)(EW_F(max)(x, EW_SPLAT(-104.0f)), EW_SPLAT(89.0f));
    const EW_F32 shifted = EW_F(fma)(held, EW_SPLAT(0x1.715476p+0f), EW_SPLAT(0x1.8p23f));
    const EW_F32 n = shifted - 0x1.8p23f;
    const EW_F32 r = EW_F(fma)(n, EW_SPLAT(2.12194440e-4f), EW_F(fma)(n, EW_SPLAT(-0.693359375f), held));
    EW_F32 p = EW_F(fma)(EW_SPLAT(0x1.6a23d0p-10f), r, EW_SPLAT(0x1.123a20p-7f));
    p = EW_F(fma)(p, r, EW_SPLAT(0x1.5558f2p-5f));
    p = EW_F(fma)(p, r, EW_SPLAT(0x1.555492p-3f));
    p = EW_F(fma)(p, r, EW_SPLAT(0x1.fffffcp-2f));
    p = EW_F(fma)(p, r, EW_SPLAT(1));
    p = EW_F(fma)(p, r, EW_SPLAT(1));
    return EW_F(scale)(p, n, (EW_S32)shifted - 0x4b400000);
}

/* 1 / (1 + e^-x). */
EW_INLINE EW_F32 EW_F(sigmoid)(EW_F32 x) { return 1.0f / (1.0f + EW_F(exp)(-x)); }

/* m / (m + 2), m = e^(2|x|) - 1 without cancellation: 2^n (e^r - 1) + (2^n - 1); from 9.02 on it rounds to 1. */
EW_INLINE EW_F32 EW_F(tanh)(EW_F32 x) {
    const EW_F32 twice = 2.0f * EW_F(min)(EW_F(abs)(x), EW_SPLAT(9.1f));
    const EW_F32 shifted = EW_F(fma)(twice, EW_SPLAT(0x1.715476p+0f), EW_SPLAT(0x1.8p23f));
    const EW_F32 n = shifted - 0x1.8p23f;
    const EW_F32 r = EW_F(fma)(n, EW_SPLAT(2.12194440e-4f), EW_F(fma)(n, EW_SPLAT(-0.693359375f), twice));
    EW_F32 p = EW_F(fma)(EW_SPLAT(0x1.6d995cp-10f), r, EW_SPLAT(0x1.122838p-7f));
    p = EW_F(fma)(p, r, EW_SPLAT(0x1.555486p-5f));
    p = EW_F(fma)(p, r, EW_SPLAT(0x1.5554b0p-3f));
    p = EW_F(fma)(p, r, EW_SPLAT(0.5f));
    p = EW_F(fma)(p * r, r, r);
    const EW_F32 power = (EW_F32)(((EW_S32)shifted << 23) + 0x3f800000);
    const EW_F32 m = EW_F(fma)(p, power, power - 1.0f);
    return EW_F(with_sign)(m / (m + 2.0f), x);
}

/* Both polynomials after N. Juffa (public domain): x + x p(x^2) below 0.927734375, 1 - e^q(|x|) above. */
EW_INLINE EW_F32 EW_F(erf)(EW_F32 x) {
    const EW_F32 size = EW_F(min)(EW_F(abs)(x), EW_SPLAT(4));
    const EW_F32 square = size * size;
    EW_F32 q = EW_F(fma)(EW_SPLAT(-0x1.220000p-16f), size, EW_SPLAT(0x1.91cfb2p-12f));
    const EW_F32 u = EW_F(fma)(EW_SPLAT(-0x1.fd1438p-9f), size, EW_SPLAT(0x1.8d6342p-6f));
    q = EW_F(fma)(q, square, u);
    q = EW_F(fma)(q, size, EW_SPLAT(-0x1.b55cb8p-4f));
    q = EW_F(fma)(q, size, EW_SPLAT(-0x1.450aa0p-1f));
    q = EW_F(fma)(q, size, EW_SPLAT(-0x1.079d0cp-3f));
    q = EW_F(fma)(q, size, -size);
    EW_F32 p = EW_F(fma)(EW_SPLAT(-0x1.38e000p-11f), square, EW_SPLAT(0x1.471a58p-8f));
    p = EW_F(fma)(p, square, EW_SPLAT(-0x1.b691b2p-6f));
    p = EW_F(fma)(p, square, EW_SPLAT(0x1.ce1c44p-4f));
    p = EW_F(fma)(p, square, EW_SPLAT(-0x1.812700p-2f));
    p = EW_F(fma)(p, square, EW_SPLAT(0x1.06eba8p-3f));
    const EW_F32 found = EW_F(select)(size > 0.927734375f, 1.0f - EW_F(exp)(q), EW_F(fma)(p, size, size));
    return EW_F(with_sign)(found, x);
}

/* x = m 2^e, m in [2/3, 4/3): log1p(m - 1) + e ln 2, polynomial after N. Juffa (public domain). */
EW_INLINE EW_F32 EW_F(log)(EW_F32 x) {
    const EW_S32 tiny = x < 0x1p-126f;
    const EW_F32 grown = EW_F(select)(tiny, x * 0x1p23f, x);
    const EW_S32 exponent = ((EW_S32)grown - 0x3f2aaaab) & (int32_t)0xff800000;
    const EW_F32 f = (EW_F32)((EW_S32)grown - exponent) - 1.0f;
    const EW_F32 e = EW_CONVERT((exponent >> 23) - (tiny & 23), EW_F32);
    const EW_F32 s = f * f;
    EW_F32 r = EW_F(fma)(EW_SPLAT(-0.130310059f), s, EW_SPLAT(-0.121484190f));
    EW_F32 t = EW_F(fma)(EW_SPLAT(0.140869141f), s, EW_SPLAT(0.139814854f));
    r = EW_F(fma)(r, s, EW_SPLAT(-0.166846052f));
    t = EW_F(fma)(t, s, EW_SPLAT(0.200120345f));
    r = EW_F(fma)(r, s, EW_SPLAT(-0.249996200f));
    r = EW_F(fma)(t, f, r);
    r = EW_F(fma)(r, f, EW_SPLAT(0.333331972f));
    r = EW_F(fma)(r, f, EW_SPLAT(-0.5f));
    r = EW_F(fma)(r, s, f);
    r = EW_F(fma)(e, EW_SPLAT(0x1.62e430p-1f), r);
    const EW_F32 infinity = EW_SPLAT(__builtin_inff());
    r = EW_F(select)((x > 0.0f) & (x < infinity), r, x + x);
    r = EW_F(select)(x < 0.0f, EW_SPLAT(__builtin_nanf("")), r);
    return EW_F(select)(x == 0.0f, -infinity, r);
}

/* log(1 + e^x) = max(x, 0) + log1p(t), t = e^-|x|; what 1 + t loses is given back to its logarithm (Kahan). */
EW_INLINE EW_F32 EW_F(softplus)(EW_F32 x) {
    const EW_F32 t = EW_F(exp)(-EW_F(abs)(x));
    const EW_F32 u = 1.0f + t;
    return EW_F(max)(x, EW_SPLAT(0)) + (EW_F(log)(u) + (t - (u - 1.0f)) / u);
}

/* x = n pi/2 + r in float64, exact to 2^-50 for |x| <= 2^20: the first part of pi/2 has 33 bits. */
EW_INLINE EW_F32 EW_F(quadrant)(EW_F32 x, EW_S32 *n) {
    const EW_F64 wide = EW_CONVERT(x, EW_F64);
    const EW_F64 shifted = wide * 0x1.45f306dc9c883p-1 + 0x1.8p52;
    const EW_F64 whole = shifted - 0x1.8p52;
    *n = EW_CONVERT((EW_S64)shifted & 3, EW_S32);
    return EW_CONVERT((wide - whole * 0x1.921fb544p+0) - whole * 0x1.0b4611a626331p-34, EW_F32);
}
/* Polynomials fitted here for the least relative error; odd quadrants take the other one. */
EW_INLINE EW_F32 EW_F(circle)(EW_F32 r, EW_S32 n) {
    const EW_F32 s = r * r;
    EW_F32 sine = EW_F(fma)(EW_SPLAT(-0x1.994cf8p-13f), s, EW_SPLAT(0x1.11075cp-7f));
    sine = EW_F(fma)(sine, s, EW_SPLAT(-0x1.555546p-3f));
    sine = EW_F(fma)(sine * s, r, r);
    EW_F32 cosine = EW_F(fma)(EW_SPLAT(0x1.9a00ccp-16f), s, EW_SPLAT(-0x1.6c0c86p-10f));
    cosine = EW_F(fma)(cosine, s, EW_SPLAT(0x1.55554ap-5f));
    cosine = EW_F(fma)(cosine, s, EW_SPLAT(-0.5f));
    cosine = EW_F(fma)(cosine, s, EW_SPLAT(1));
    const EW_F32 found = EW_F(select)((n & 1) != 0, cosine, sine);
    return (EW_F32)((EW_S32)found ^ ((n & 2) << 30));
}
EW_INLINE EW_F32 EW_F(sin)(EW_F32 x) {
    EW_S32 n;
    const EW_F32 r = EW_F(quadrant)(x, &n);
    const EW_F32 found = EW_F(select)(EW_F(abs)(x) <= 0x1p20f, EW_F(circle)(r, n), EW_SPLAT(__builtin_nanf("")));
    return EW_F(select)(x == 0.0f, x, found);
}
EW_INLINE EW_F32 EW_F(cos)(EW_F32 x) {
    EW_S32 n;
    const EW_F32 r = EW_F(quadrant)(x, &n);
    return EW_F(select)(EW_F(abs)(x) <= 0x1p20f, EW_F(circle)(r, n + 1), EW_SPLAT(__builtin_nanf("")));
}

/* 2^(y log2 |x|) in float64 (logarithm by the series of atanh), then the cases of C's pow. */
EW_INLINE EW_F32 EW_F(pow)(EW_F32 x, EW_F32 y) {
    const EW_F64 size = EW_CONVERT(EW_F(abs)(x), EW_F64);
    const EW_S64 exponent = ((EW_S64)size - 0x3fe6a09e667f3bcd) & (int64_t)0xfff0000000000000;
    const EW_F64 m = (EW_F64)((EW_S64)size - exponent);
    const EW_F64 s = (m - 1.0) / (m + 1.0), q = s * s;
    EW_F64 l = q * 0x1.21ba45b184f0dp-2 + 0x1.4794b23385b29p-2;
    l = l * q + 0x1.a61a32b1cbfa1p-2;
    l = l * q + 0x1.2776c28e734cbp-1;
    l = l * q + 0x1.ec709dc540510p-1;
    l = l * q + 0x1.71547652b8250p+1;
    /* An exponent as a number: its bits lie 32 places lower in a word of their own. */
    const EW_F64 e = EW_CONVERT(EW_CONVERT((exponent >> 32) >> 20, EW_S32), EW_F64);
    EW_F64 t = (e + l * s) * EW_CONVERT(y, EW_F64);
    const EW_S64 low = t < -200.0, high = t > 200.0;
    t = (EW_F64)((~(low | high) & (EW_S64)t) | (low & (EW_S64)(t * 0.0 - 200.0)) | (high & (EW_S64)(t * 0.0 + 200.0)));
    const EW_F64 shifted = t + 0x1.8p52;
    const EW_F64 r = t - (shifted - 0x1.8p52);
    EW_F64 p = r * 0x1.fe1787e5341f5p-17 + 0x1.446a204eced04p-13;
    p = p * r + 0x1.5d8a70869cbccp-10;
    p = p * r + 0x1.3b29dc4046934p-7;
    p = p * r + 0x1.c6b08aaf2ed47p-5;
    p = p * r + 0x1.ebfbe0a4bf2d6p-3;
    p = p * r + 0x1.62e42ff116294p-1;
    p = p * r + 0x1.ffffffffabbd3p-1;
    p = p * (EW_F64)(((EW_S64)shifted << 52) + 0x3ff0000000000000);
    EW_F32 found = EW_CONVERT(p, EW_F32);
    const EW_F32 infinity = EW_SPLAT(__builtin_inff()), ysize = EW_F(abs)(y), xsize = EW_F(abs)(x);
    const EW_S32 whole = (EW_F(trunc)(y) == y) | (ysize == infinity);
    const EW_F32 half = y * 0.5f;
    const EW_S32 odd = whole & (ysize < 0x1p24f) & (EW_F(trunc)(half) != half);
    /* 0, infinity and exponents of infinity: 0 or infinity by whether the power grows. */
    const EW_S32 grows = ((xsize > 1.0f) & (y > 0.0f)) | ((xsize < 1.0f) & (y < 0.0f));
    const EW_F32 end = EW_F(select)(grows, infinity, EW_SPLAT(0));
    found = EW_F(select)((xsize == 0.0f) | (xsize == infinity) | (ysize == infinity), end, found);
    found = EW_F(select)((x < 0.0f) & ~whole & (xsize != infinity), EW_SPLAT(__builtin_nanf("")), found);
    found = (EW_F32)((EW_S32)found ^ ((EW_S32)x & odd & (int32_t)0x80000000));
    found = EW_F(select)((x != x) | (y != y), x + y, found);
    return EW_F(select)((y == 0.0f) | (x == 1.0f) | ((xsize == 1.0f) & (ysize == infinity)), EW_SPLAT(1), found);
}

EW_INLINE EW_F32 EW_F(fmod)(EW_F32 x, EW_F32 y) {
    EW_F32 found = x;
    for (int lane = 0; lane < EW_LANES; lane++) found[lane] = ew_fmod_scalar(x[lane], y[lane]);
    return found;
}

#endif
