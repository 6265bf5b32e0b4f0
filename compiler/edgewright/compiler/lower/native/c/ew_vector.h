/* Vectors of 4, 8 and 16 lanes (as many as EW_MAX_LANES allows) over GCC's vector extensions.
 *
 * Names: ew_<operation>_<type>x<lanes>. Every operation rounds once; the file is compiled with -ffp-contract=off, and
 * ew_fma is the only fused operation, so that a result has the same bits on every machine with a fused multiply-add.
 */
#ifndef EW_VECTOR_H
#define EW_VECTOR_H

#include <stdint.h>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

#define EW_INLINE static inline __attribute__((always_inline, unused))

#define EW_SPLAT4(s) {s, s, s, s}
#define EW_SPLAT8(s) {s, s, s, s, s, s, s, s}
#define EW_SPLAT16(s) {s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s}

/* Bytes as 32-bit lanes. Compilers write a conversion of vectors element by element here. */
#if defined(__SSE4_1__)
#define EW_WIDEN_U8_4(v) _mm_cvtepu8_epi32(_mm_cvtsi32_si128((int)(v)))
#define EW_WIDEN_S8_4(v) _mm_cvtepi8_epi32(_mm_cvtsi32_si128((int)(v)))
#define EW_WIDEN_U8_8(v) _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)(v)))
#define EW_WIDEN_S8_8(v) _mm256_cvtepi8_epi32(_mm_cvtsi64_si128((long long)(v)))
#define EW_WIDEN_U8_16(v) _mm512_cvtepu8_epi32((__m128i)(v))
#define EW_WIDEN_S8_16(v) _mm512_cvtepi8_epi32((__m128i)(v))
#elif defined(__x86_64__)
#define EW_TWICE(v) _mm_unpacklo_epi8(_mm_cvtsi32_si128((int)(v)), _mm_cvtsi32_si128((int)(v)))
#define EW_WIDEN_U8_4(v) _mm_srli_epi32(_mm_unpacklo_epi16(EW_TWICE(v), EW_TWICE(v)), 24)
#define EW_WIDEN_S8_4(v) _mm_srai_epi32(_mm_unpacklo_epi16(EW_TWICE(v), EW_TWICE(v)), 24)
#elif defined(__ARM_NEON)
#define EW_WIDEN_U8_4(v) vmovl_u16(vget_low_u16(vmovl_u8(vreinterpret_u8_u32(vdup_n_u32((uint32_t)(v))))))
#define EW_WIDEN_S8_4(v) vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_s32(vdup_n_s32((int32_t)(v))))))
#else
#define EW_WIDEN_U8_4(v) __builtin_convertvector(v, s32x4)
#define EW_WIDEN_S8_4(v) __builtin_convertvector(v, s32x4)
#endif

/* The low bytes of 32-bit lanes. */
#if defined(__AVX512VL__) || !(defined(__x86_64__) || defined(__ARM_NEON))
#define EW_NARROW_4(v) __builtin_convertvector(v, u8x4)
#define EW_NARROW_8(v) __builtin_convertvector(v, u8x8)
#define EW_NARROW_16(v) __builtin_convertvector(v, u8x16)
#elif defined(__AVX2__)
#define EW_LOW_BYTES(v) _mm_shuffle_epi8(v, _mm_set1_epi32(0x0c080400))
#define EW_NARROW_4(v) _mm_cvtsi128_si32(EW_LOW_BYTES((__m128i)(v)))
#define EW_NARROW_8(v)                                                                                                 \
    _mm_cvtsi128_si64(_mm_unpacklo_epi32(EW_LOW_BYTES(_mm256_castsi256_si128((__m256i)(v))),                           \
                                         EW_LOW_BYTES(_mm256_extracti128_si256((__m256i)(v), 1))))
#elif defined(__x86_64__)
#define EW_LOW_WORDS(v) _mm_packs_epi32(_mm_and_si128((__m128i)(v), _mm_set1_epi32(255)), _mm_setzero_si128())
#define EW_NARROW_4(v) _mm_cvtsi128_si32(_mm_packus_epi16(EW_LOW_WORDS(v), _mm_setzero_si128()))
#else
#define EW_NARROW_4(v)                                                                                                 \
    vget_lane_s32(vreinterpret_s32_s8(vmovn_s16(vcombine_s16(vmovn_s32((int32x4_t)(v)), vdup_n_s16(0)))), 0)
#endif

/* Types, splats, loads and stores; a load or store of a part touches `count` elements only, and reads 0 beyond. */
#define EW_TYPES(N)                                                                                                    \
    typedef float f32x##N __attribute__((vector_size(4 * N)));                                                         \
    typedef int32_t s32x##N __attribute__((vector_size(4 * N)));                                                       \
    typedef uint8_t u8x##N __attribute__((vector_size(N)));                                                            \
    typedef int8_t s8x##N __attribute__((vector_size(N)));                                                             \
    EW_INLINE f32x##N ew_splat_f32x##N(float s) { return (f32x##N)EW_SPLAT##N(s); }                                    \
    EW_INLINE s32x##N ew_splat_s32x##N(int32_t s) { return (s32x##N)EW_SPLAT##N(s); }                                  \
    EW_MEMORY(f32x##N, f32x##N, float)                                                                                 \
    EW_MEMORY(s32x##N, s32x##N, int32_t)                                                                               \
    EW_MEMORY(u8x##N, u8x##N, uint8_t)                                                                                 \
    EW_MEMORY(s8x##N, s8x##N, int8_t)                                                                                  \
    EW_LOAD_PART_32(N)                                                                                                 \
    EW_LOAD_PART(u8x##N, u8x##N, uint8_t)                                                                              \
    EW_LOAD_PART(s8x##N, s8x##N, int8_t)                                                                               \
    EW_INLINE s32x##N ew_widen_u8x##N(u8x##N v) { return (s32x##N)EW_WIDEN_U8_##N(v); }                                \
    EW_INLINE s32x##N ew_widen_s8x##N(s8x##N v) { return (s32x##N)EW_WIDEN_S8_##N(v); }                                \
    EW_INLINE u8x##N ew_narrow_u8x##N(s32x##N v) { return (u8x##N)EW_NARROW_##N(v); }                                  \
    EW_INLINE s8x##N ew_narrow_s8x##N(s32x##N v) { return (s8x##N)EW_NARROW_##N(v); }

#define EW_MEMORY(NAME, TYPE, SCALAR)                                                                                  \
    EW_INLINE TYPE ew_load_##NAME(const SCALAR *p) {                                                                   \
        TYPE v;                                                                                                        \
        __builtin_memcpy(&v, p, sizeof v);                                                                             \
        return v;                                                                                                      \
    }                                                                                                                  \
    EW_INLINE void ew_store_##NAME(SCALAR *p, TYPE v) { __builtin_memcpy(p, &v, sizeof v); }                           \
    EW_INLINE void ew_store_part_##NAME(SCALAR *p, TYPE v, int64_t count) {                                            \
        __builtin_memcpy(p, &v, (unsigned long)count * sizeof *p);                                                     \
    }
#define EW_LOAD_PART(NAME, TYPE, SCALAR)                                                                               \
    EW_INLINE TYPE ew_load_part_##NAME(const SCALAR *p, int64_t count) {                                               \
        TYPE v = {0};                                                                                                  \
        __builtin_memcpy(&v, p, (unsigned long)count * sizeof *p);                                                     \
        return v;                                                                                                      \
    }

/* Parts of 32-bit vectors by a mask where the machine has one: put together in memory, they would wait for stores. */
#if defined(__AVX512VL__)
#define EW_LOAD_PART_32(N)                                                                                             \
    EW_INLINE f32x##N ew_load_part_f32x##N(const float *p, int64_t count) {                                            \
        return (f32x##N)EW_X86_NAME##N(_maskz_loadu_ps)((1u << count) - 1, p);                                         \
    }                                                                                                                  \
    EW_INLINE s32x##N ew_load_part_s32x##N(const int32_t *p, int64_t count) {                                          \
        return (s32x##N)EW_X86_NAME##N(_maskz_loadu_epi32)((1u << count) - 1, p);                                      \
    }
#elif defined(__AVX2__)
#define EW_LANES4 {0, 1, 2, 3}
#define EW_LANES8 {0, 1, 2, 3, 4, 5, 6, 7}
#define EW_INTEGERS4 __m128i
#define EW_INTEGERS8 __m256i
#define EW_LOAD_PART_32(N)                                                                                             \
    EW_INLINE f32x##N ew_load_part_f32x##N(const float *p, int64_t count) {                                            \
        const s32x##N mask = (s32x##N)EW_LANES##N < (int32_t)count;                                                    \
        return (f32x##N)EW_X86_NAME##N(_maskload_ps)(p, (EW_INTEGERS##N)mask);                                         \
    }                                                                                                                  \
    EW_INLINE s32x##N ew_load_part_s32x##N(const int32_t *p, int64_t count) {                                          \
        const s32x##N mask = (s32x##N)EW_LANES##N < (int32_t)count;                                                    \
        return (s32x##N)EW_X86_NAME##N(_maskload_epi32)(p, (EW_INTEGERS##N)mask);                                      \
    }
#else
#define EW_LOAD_PART_32(N)                                                                                             \
    EW_LOAD_PART(f32x##N, f32x##N, float)                                                                              \
    EW_LOAD_PART(s32x##N, s32x##N, int32_t)
#endif
#define EW_X86_NAME4(name) _mm##name
#define EW_X86_NAME8(name) _mm256##name
#define EW_X86_NAME16(name) _mm512##name

/* Operations that every vector extension writes the same way. */
#define EW_PLAIN(N)                                                                                                    \
    EW_INLINE f32x##N ew_add_f32x##N(f32x##N a, f32x##N b) { return a + b; }                                           \
    EW_INLINE f32x##N ew_sub_f32x##N(f32x##N a, f32x##N b) { return a - b; }                                           \
    EW_INLINE f32x##N ew_mul_f32x##N(f32x##N a, f32x##N b) { return a * b; }                                           \
    EW_INLINE f32x##N ew_div_f32x##N(f32x##N a, f32x##N b) { return a / b; }                                           \
    EW_INLINE f32x##N ew_neg_f32x##N(f32x##N a) { return -a; }                                                         \
    EW_INLINE f32x##N ew_abs_f32x##N(f32x##N a) { return (f32x##N)((s32x##N)a & 0x7fffffff); }                         \
    EW_INLINE s32x##N ew_less_f32x##N(f32x##N a, f32x##N b) { return a < b; }                                          \
    EW_INLINE s32x##N ew_less_equal_f32x##N(f32x##N a, f32x##N b) { return a <= b; }                                   \
    EW_INLINE s32x##N ew_equal_f32x##N(f32x##N a, f32x##N b) { return a == b; }                                        \
    EW_INLINE s32x##N ew_iadd_s32x##N(s32x##N a, s32x##N b) { return a + b; }                                          \
    EW_INLINE s32x##N ew_isub_s32x##N(s32x##N a, s32x##N b) { return a - b; }                                          \
    EW_INLINE s32x##N ew_imul_s32x##N(s32x##N a, s32x##N b) { return a * b; }                                          \
    EW_INLINE s32x##N ew_and_s32x##N(s32x##N a, s32x##N b) { return a & b; }                                           \
    EW_INLINE s32x##N ew_or_s32x##N(s32x##N a, s32x##N b) { return a | b; }                                            \
    EW_INLINE s32x##N ew_xor_s32x##N(s32x##N a, s32x##N b) { return a ^ b; }                                           \
    EW_INLINE s32x##N ew_not_s32x##N(s32x##N a) { return ~a; }                                                         \
    EW_INLINE s32x##N ew_iless_s32x##N(s32x##N a, s32x##N b) { return a < b; }                                         \
    EW_INLINE s32x##N ew_iequal_s32x##N(s32x##N a, s32x##N b) { return a == b; }                                       \
    EW_INLINE s32x##N ew_iselect_s32x##N(s32x##N m, s32x##N a, s32x##N b) { return (m & a) | (~m & b); }               \
    EW_INLINE f32x##N ew_select_f32x##N(s32x##N m, f32x##N a, f32x##N b) {                                             \
        return (f32x##N)((m & (s32x##N)a) | (~m & (s32x##N)b));                                                        \
    }                                                                                                                  \
    EW_INLINE f32x##N ew_to_f32_s32x##N(s32x##N a) { return __builtin_convertvector(a, f32x##N); }                     \
    EW_INLINE s32x##N ew_to_s32_trunc_f32x##N(f32x##N a) { return __builtin_convertvector(a, s32x##N); }

/* Operations that only intrinsics reach. min and max give the first argument where the two are equal or do not compare
 * (the x86 instructions give the second one, NEON's would give a NaN): max(x, 0) keeps a NaN in x, on every machine. */
#if defined(__x86_64__)
#define EW_X86(N, P, FMA)                                                                                   \
    EW_INLINE f32x##N ew_min_f32x##N(f32x##N a, f32x##N b) { return (f32x##N)P##_min_ps(b, a); }                       \
    EW_INLINE f32x##N ew_max_f32x##N(f32x##N a, f32x##N b) { return (f32x##N)P##_max_ps(b, a); }                       \
    EW_INLINE f32x##N ew_sqrt_f32x##N(f32x##N a) { return (f32x##N)P##_sqrt_ps(a); }                                   \
    EW_INLINE s32x##N ew_to_s32_even_f32x##N(f32x##N a) { return (s32x##N)P##_cvtps_epi32(a); }                        \
    EW_INLINE f32x##N ew_fma_f32x##N(f32x##N a, f32x##N b, f32x##N c) { return FMA; }
#ifdef __FMA__
EW_TYPES(4)
EW_PLAIN(4)
EW_X86(4, _mm, (f32x4)_mm_fmadd_ps(a, b, c))
#else
EW_TYPES(4)
EW_PLAIN(4)
EW_X86(4, _mm, a *b + c)
#endif
#if EW_MAX_LANES >= 8
EW_TYPES(8)
EW_PLAIN(8)
EW_X86(8, _mm256, (f32x8)_mm256_fmadd_ps(a, b, c))
#endif
#if EW_MAX_LANES >= 16
EW_TYPES(16)
EW_PLAIN(16)
EW_X86(16, _mm512, (f32x16)_mm512_fmadd_ps(a, b, c))
#endif
#else
EW_TYPES(4)
EW_PLAIN(4)
EW_INLINE f32x4 ew_min_f32x4(f32x4 a, f32x4 b) { return ew_select_f32x4(b < a, b, a); }
EW_INLINE f32x4 ew_max_f32x4(f32x4 a, f32x4 b) { return ew_select_f32x4(b > a, b, a); }
#if defined(__ARM_NEON)
#if defined(__ARM_FEATURE_FMA)
EW_INLINE f32x4 ew_fma_f32x4(f32x4 a, f32x4 b, f32x4 c) {
    return (f32x4)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}
#else
EW_INLINE f32x4 ew_fma_f32x4(f32x4 a, f32x4 b, f32x4 c) { return a * b + c; }
#endif
#else
EW_INLINE f32x4 ew_fma_f32x4(f32x4 a, f32x4 b, f32x4 c) { return a * b + c; }
#endif
#if defined(__aarch64__)
EW_INLINE f32x4 ew_sqrt_f32x4(f32x4 a) { return (f32x4)vsqrtq_f32((float32x4_t)a); }
EW_INLINE s32x4 ew_to_s32_even_f32x4(f32x4 a) { return (s32x4)vcvtnq_s32_f32((float32x4_t)a); }
#else
EW_INLINE f32x4 ew_sqrt_f32x4(f32x4 a) {
    return (f32x4){__builtin_sqrtf(a[0]), __builtin_sqrtf(a[1]), __builtin_sqrtf(a[2]), __builtin_sqrtf(a[3])};
}
/* Below 2^23, adding 2^23 to a magnitude rounds it to a whole number, half to even; from there on all floats are whole. */
EW_INLINE s32x4 ew_to_s32_even_f32x4(f32x4 a) {
    const f32x4 limit = ew_splat_f32x4(8388608.0f);
    const f32x4 size = ew_abs_f32x4(a);
    const f32x4 whole = ew_select_f32x4(size < limit, (size + limit) - limit, size);
    return ew_to_s32_trunc_f32x4((f32x4)((s32x4)whole | ((s32x4)a & ew_splat_s32x4((int32_t)0x80000000u))));
}
#endif
#endif

/* Four lanes out of eight: two vectors side by side. */
#if defined(__clang__)
#define EW_PICK4(A, B, I, J, K, L) __builtin_shufflevector(A, B, I, J, K, L)
#else
#define EW_PICK4(A, B, I, J, K, L) __builtin_shuffle(A, B, (s32x4){I, J, K, L})
#endif
/* Rows become columns. */
EW_INLINE void ew_transpose_f32x4(f32x4 *a, f32x4 *b, f32x4 *c, f32x4 *d) {
    const f32x4 ab = EW_PICK4(*a, *b, 0, 4, 1, 5), cd = EW_PICK4(*c, *d, 0, 4, 1, 5);
    const f32x4 AB = EW_PICK4(*a, *b, 2, 6, 3, 7), CD = EW_PICK4(*c, *d, 2, 6, 3, 7);
    *a = EW_PICK4(ab, cd, 0, 1, 4, 5);
    *b = EW_PICK4(ab, cd, 2, 3, 6, 7);
    *c = EW_PICK4(AB, CD, 0, 1, 4, 5);
    *d = EW_PICK4(AB, CD, 2, 3, 6, 7);
}

/* Half-precision numbers in memory as float vectors; exact. Without an instruction the bits are moved: the exponent is
 * rebased by a multiplication, which also gives subnormals their value; infinities and NaNs keep their exponent. */
EW_INLINE float ew_f16_as_f32(uint16_t h) {
    union {
        uint32_t bits;
        float value;
    } v = {(uint32_t)(h & 0x7fff) << 13}, all = {0x7f800000};
    v.value *= 0x1p112f;
    if ((h & 0x7c00) == 0x7c00) v.bits |= all.bits;
    v.bits |= (uint32_t)(h & 0x8000) << 16;
    return v.value;
}
#if defined(__F16C__)
EW_INLINE f32x4 ew_load_f16_as_f32x4(const uint16_t *p) { return (f32x4)_mm_cvtph_ps(_mm_loadl_epi64((const __m128i *)p)); }
#elif defined(__aarch64__)
EW_INLINE f32x4 ew_load_f16_as_f32x4(const uint16_t *p) {
    return (f32x4)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}
#else
EW_INLINE f32x4 ew_load_f16_as_f32x4(const uint16_t *p) {
    return (f32x4){ew_f16_as_f32(p[0]), ew_f16_as_f32(p[1]), ew_f16_as_f32(p[2]), ew_f16_as_f32(p[3])};
}
#endif
#if EW_MAX_LANES >= 8
EW_INLINE f32x8 ew_load_f16_as_f32x8(const uint16_t *p) {
    return (f32x8)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}
#endif
#if EW_MAX_LANES >= 16
EW_INLINE f32x16 ew_load_f16_as_f32x16(const uint16_t *p) {
    return (f32x16)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}
#endif

/* Bytes in memory as float vectors. */
EW_INLINE int32_t ew_four_bytes(const int8_t *p) {
    int32_t four;
    __builtin_memcpy(&four, p, sizeof four);
    return four;
}
#if defined(__SSE4_1__)
EW_INLINE f32x4 ew_load_s8_as_f32x4(const int8_t *p) {
    return (f32x4)_mm_cvtepi32_ps(_mm_cvtepi8_epi32(_mm_cvtsi32_si128(ew_four_bytes(p))));
}
#elif defined(__ARM_NEON)
EW_INLINE f32x4 ew_load_s8_as_f32x4(const int8_t *p) {
    const int8x8_t bytes = vreinterpret_s8_s32(vdup_n_s32(ew_four_bytes(p)));
    return (f32x4)vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(bytes))));
}
#else
EW_INLINE f32x4 ew_load_s8_as_f32x4(const int8_t *p) { return ew_to_f32_s32x4((s32x4){p[0], p[1], p[2], p[3]}); }
#endif
#if EW_MAX_LANES >= 8
EW_INLINE f32x8 ew_load_s8_as_f32x8(const int8_t *p) {
    return (f32x8)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)));
}
#endif
#if EW_MAX_LANES >= 16
EW_INLINE f32x16 ew_load_s8_as_f32x16(const int8_t *p) {
    return (f32x16)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}
#endif

#endif
