/* Sums of int8 products and requantization, by instruction set; after ew_vector.h.
 *
 * A group is four neighbouring bytes. A lane of a vector of weights holds the group of one output channel (s8), and a
 * group of x is the same in every lane. ew_dot_x<lanes> adds the four products of every lane to an int32, exactly on
 * every instruction set. Where an instruction takes x in one signedness only, the other is flipped (x ^ 0x80) and the
 * kernel adds EW_DOT's compensation to its sums (`int8_packing.py`):
 *   VNNI: u8 x s8, four to a lane.       s8 is flipped: x + 128.
 *   NEON: s8 x s8, with or without sdot. u8 is flipped: x - 128.
 *   else: widened to 16 bits, pairs of products by pmaddwd. Nothing is flipped.
 */
#ifndef EW_DOT_H
#define EW_DOT_H
#include "ew_vector.h"

EW_INLINE int32_t ew_group(const void *p) {
    int32_t group;
    __builtin_memcpy(&group, p, 4);
    return group;
}

/* Fewer than four bytes: what lies behind them is not touched, and reads as 0. */
EW_INLINE int32_t ew_group_part(const void *p, int64_t count) {
    const uint8_t *bytes = (const uint8_t *)p;
    uint32_t group = bytes[0];
    if (count > 1) group |= (uint32_t)bytes[1] << 8;
    if (count > 2) group |= (uint32_t)bytes[2] << 16;
    return (int32_t)group;
}

#define EW_FLIP ((int32_t)0x80808080)

#if defined(__x86_64__)
#if defined(__AVX512VNNI__) || defined(__AVXVNNI__)
#define EW_DOT_TYPES(N)                                                                                                \
    typedef s32x##N ew_dot_input_x##N;                                                                                 \
    typedef s32x##N ew_dot_weight_x##N;                                                                                \
    EW_INLINE ew_dot_input_x##N ew_dot_u8_x##N(int32_t group) { return ew_splat_s32x##N(group); }                      \
    EW_INLINE ew_dot_input_x##N ew_dot_s8_x##N(int32_t group) {                                                        \
        return ew_splat_s32x##N(group) ^ ew_splat_s32x##N(EW_FLIP);                                                    \
    }                                                                                                                  \
    EW_INLINE ew_dot_input_x##N ew_dot_each_u8_x##N(s32x##N groups) { return groups; }                                 \
    EW_INLINE ew_dot_input_x##N ew_dot_each_s8_x##N(s32x##N groups) { return groups ^ ew_splat_s32x##N(EW_FLIP); }     \
    EW_INLINE ew_dot_weight_x##N ew_dot_load_x##N(const int8_t *p) { return ew_load_s32x##N((const int32_t *)p); }
#if defined(__AVX512VNNI__)
#define EW_DPBUSD4 _mm_dpbusd_epi32
#define EW_DPBUSD8 _mm256_dpbusd_epi32
#else
#define EW_DPBUSD4 _mm_dpbusd_avx_epi32
#define EW_DPBUSD8 _mm256_dpbusd_avx_epi32
#endif
#define EW_DOT(N, VECTOR, INSTRUCTION)                                                                                 \
    EW_DOT_TYPES(N)                                                                                                    \
    EW_INLINE s32x##N ew_dot_x##N(s32x##N sum, ew_dot_input_x##N x, ew_dot_weight_x##N w) {                            \
        return (s32x##N)INSTRUCTION((VECTOR)sum, (VECTOR)x, (VECTOR)w);                                                \
    }
EW_DOT(4, __m128i, EW_DPBUSD4)
EW_DOT(8, __m256i, EW_DPBUSD8)
#if EW_MAX_LANES >= 16
EW_DOT(16, __m512i, _mm512_dpbusd_epi32)
#endif
#else
/* Bytes 0 and 2 of a group are `even`, 1 and 3 `odd`, as 16-bit numbers. */
#define EW_DOT_PAIRS(N, VECTOR, P, AND)                                                                                \
    typedef struct {                                                                                                   \
        VECTOR even, odd;                                                                                              \
    } ew_dot_input_x##N;                                                                                               \
    typedef ew_dot_input_x##N ew_dot_weight_x##N;                                                                      \
    EW_INLINE ew_dot_input_x##N ew_dot_each_s8_x##N(s32x##N groups) {                                                  \
        const VECTOR both = (VECTOR)groups;                                                                            \
        return (ew_dot_input_x##N){P##_srai_epi16(P##_slli_epi16(both, 8), 8), P##_srai_epi16(both, 8)};               \
    }                                                                                                                  \
    EW_INLINE ew_dot_input_x##N ew_dot_each_u8_x##N(s32x##N groups) {                                                  \
        const VECTOR both = (VECTOR)groups;                                                                            \
        return (ew_dot_input_x##N){AND(both, P##_set1_epi16(255)), P##_srli_epi16(both, 8)};                           \
    }                                                                                                                  \
    EW_INLINE ew_dot_input_x##N ew_dot_u8_x##N(int32_t g) { return ew_dot_each_u8_x##N(ew_splat_s32x##N(g)); }         \
    EW_INLINE ew_dot_input_x##N ew_dot_s8_x##N(int32_t g) { return ew_dot_each_s8_x##N(ew_splat_s32x##N(g)); }         \
    EW_INLINE ew_dot_weight_x##N ew_dot_load_x##N(const int8_t *p) {                                                   \
        return ew_dot_each_s8_x##N(ew_load_s32x##N((const int32_t *)p));                                               \
    }                                                                                                                  \
    EW_INLINE s32x##N ew_dot_x##N(s32x##N sum, ew_dot_input_x##N x, ew_dot_weight_x##N w) {                            \
        return sum + (s32x##N)P##_madd_epi16(x.even, w.even) + (s32x##N)P##_madd_epi16(x.odd, w.odd);                  \
    }
EW_DOT_PAIRS(4, __m128i, _mm, _mm_and_si128)
#if EW_MAX_LANES >= 8
EW_DOT_PAIRS(8, __m256i, _mm256, _mm256_and_si256)
#endif
#if EW_MAX_LANES >= 16
EW_DOT_PAIRS(16, __m512i, _mm512, _mm512_and_si512)
#endif
#endif
#else
typedef s32x4 ew_dot_input_x4;
typedef s32x4 ew_dot_weight_x4;
#if defined(__ARM_NEON)
EW_INLINE ew_dot_input_x4 ew_dot_each_s8_x4(s32x4 groups) { return groups; }
EW_INLINE ew_dot_input_x4 ew_dot_each_u8_x4(s32x4 groups) { return groups ^ ew_splat_s32x4(EW_FLIP); }
EW_INLINE ew_dot_input_x4 ew_dot_s8_x4(int32_t group) { return ew_splat_s32x4(group); }
EW_INLINE ew_dot_input_x4 ew_dot_u8_x4(int32_t group) { return ew_splat_s32x4(group ^ EW_FLIP); }
EW_INLINE ew_dot_weight_x4 ew_dot_load_x4(const int8_t *p) { return ew_load_s32x4((const int32_t *)p); }
EW_INLINE s32x4 ew_dot_x4(s32x4 sum, ew_dot_input_x4 x, ew_dot_weight_x4 w) {
#if defined(__ARM_FEATURE_DOTPROD)
    return (s32x4)vdotq_s32((int32x4_t)sum, (int8x16_t)x, (int8x16_t)w);
#else
    const int8x16_t a = (int8x16_t)x, b = (int8x16_t)w;
    const int32x4_t low = vpaddlq_s16(vmull_s8(vget_low_s8(a), vget_low_s8(b)));
    const int32x4_t high = vpaddlq_s16(vmull_s8(vget_high_s8(a), vget_high_s8(b)));
#if defined(__aarch64__)
    return sum + (s32x4)vpaddq_s32(low, high);
#else
    return sum + (s32x4)vcombine_s32(vpadd_s32(vget_low_s32(low), vget_high_s32(low)),
                                     vpadd_s32(vget_low_s32(high), vget_high_s32(high)));
#endif
#endif
}
#endif
#endif

/* Requantization: round(float(sum) * factor), half to even, plus the zero point, held to the type. |the product| is
 * below 2^31 - 256; whoever cannot promise that clips it first. Four vectors that share one vector of bytes hold their
 * channels in the order of `int8_packing.quad_order`, which packing instructions undo. */
#define EW_STEPS(N, SUM, FACTOR) ew_to_s32_even_f32x##N(ew_to_f32_s32x##N(SUM) * (FACTOR))
#define EW_REQUANTIZE(N)                                                                                               \
    EW_INLINE u8x##N ew_requantize_u8x##N(s32x##N sum, f32x##N factor, int32_t zero) {                                 \
        const s32x##N steps = EW_STEPS(N, sum, factor) + zero;                                                         \
        const s32x##N low = steps & ~(steps >> 31), over = (s32x##N)(low > 255);                                       \
        return ew_narrow_u8x##N((low & ~over) | (over & 255));                                                         \
    }                                                                                                                  \
    EW_INLINE s8x##N ew_requantize_s8x##N(s32x##N sum, f32x##N factor, int32_t zero) {                                 \
        const s32x##N steps = EW_STEPS(N, sum, factor) + zero;                                                         \
        const s32x##N under = (s32x##N)(steps < -128), over = (s32x##N)(steps > 127);                                  \
        return ew_narrow_s8x##N((steps & ~under & ~over) | (under & -128) | (over & 127));                             \
    }

#if defined(__AVX512VL__)
#define EW_REQUANTIZE_VL(N, P, STORE_PART)                                                                             \
    EW_INLINE u8x##N ew_requantize_u8x##N(s32x##N sum, f32x##N factor, int32_t zero) {                                 \
        const s32x##N steps = EW_STEPS(N, sum, factor) + zero;                                                         \
        const __m128i bytes = P##_cvtusepi32_epi8((STORE_PART)(steps & ~(steps >> 31)));                               \
        u8x##N result;                                                                                                 \
        __builtin_memcpy(&result, &bytes, sizeof result);                                                              \
        return result;                                                                                                 \
    }                                                                                                                  \
    EW_INLINE s8x##N ew_requantize_s8x##N(s32x##N sum, f32x##N factor, int32_t zero) {                                 \
        const __m128i bytes = P##_cvtsepi32_epi8((STORE_PART)(EW_STEPS(N, sum, factor) + zero));                       \
        s8x##N result;                                                                                                 \
        __builtin_memcpy(&result, &bytes, sizeof result);                                                              \
        return result;                                                                                                 \
    }
EW_REQUANTIZE_VL(4, _mm, __m128i)
EW_REQUANTIZE_VL(8, _mm256, __m256i)
#if EW_MAX_LANES >= 16
EW_REQUANTIZE_VL(16, _mm512, __m512i)
#endif
#else
EW_REQUANTIZE(4)
#if EW_MAX_LANES >= 8
EW_REQUANTIZE(8)
#endif
#endif

#if defined(__x86_64__)
#define EW_REQUANTIZE_QUAD(N, VECTOR, P)                                                                               \
    EW_INLINE void ew_requantize_quad_u8x##N(uint8_t *y, s32x##N a, s32x##N b, s32x##N c, s32x##N d, f32x##N e,        \
                                             f32x##N f, f32x##N g, f32x##N h, int32_t zero) {                          \
        const VECTOR z = P##_set1_epi16((short)zero);                                                                  \
        const VECTOR low = P##_packs_epi32((VECTOR)EW_STEPS(N, a, e), (VECTOR)EW_STEPS(N, b, f));                      \
        const VECTOR high = P##_packs_epi32((VECTOR)EW_STEPS(N, c, g), (VECTOR)EW_STEPS(N, d, h));                     \
        const VECTOR all = P##_packus_epi16(P##_adds_epi16(low, z), P##_adds_epi16(high, z));                          \
        __builtin_memcpy(y, &all, sizeof all);                                                                         \
    }                                                                                                                  \
    EW_INLINE void ew_requantize_quad_s8x##N(int8_t *y, s32x##N a, s32x##N b, s32x##N c, s32x##N d, f32x##N e,         \
                                             f32x##N f, f32x##N g, f32x##N h, int32_t zero) {                          \
        const VECTOR z = P##_set1_epi16((short)zero);                                                                  \
        const VECTOR low = P##_packs_epi32((VECTOR)EW_STEPS(N, a, e), (VECTOR)EW_STEPS(N, b, f));                      \
        const VECTOR high = P##_packs_epi32((VECTOR)EW_STEPS(N, c, g), (VECTOR)EW_STEPS(N, d, h));                     \
        const VECTOR all = P##_packs_epi16(P##_adds_epi16(low, z), P##_adds_epi16(high, z));                           \
        __builtin_memcpy(y, &all, sizeof all);                                                                         \
    }
EW_REQUANTIZE_QUAD(4, __m128i, _mm)
#if EW_MAX_LANES >= 8
EW_REQUANTIZE_QUAD(8, __m256i, _mm256)
#endif
#if EW_MAX_LANES >= 16
EW_REQUANTIZE_QUAD(16, __m512i, _mm512)
#endif
/* Bytes of four rows, interleaved: lane i of vector q holds the four rows' bytes of channel quad_order(q, i). */
#define EW_INTERLEAVE(N, VECTOR, P)                                                                                    \
    EW_INLINE void ew_interleave_x##N(s32x##N *out, const void *a, const void *b, const void *c, const void *d) {      \
        VECTOR r[4];                                                                                                   \
        __builtin_memcpy(&r[0], a, sizeof(VECTOR));                                                                    \
        __builtin_memcpy(&r[1], b, sizeof(VECTOR));                                                                    \
        __builtin_memcpy(&r[2], c, sizeof(VECTOR));                                                                    \
        __builtin_memcpy(&r[3], d, sizeof(VECTOR));                                                                    \
        const VECTOR ab = P##_unpacklo_epi8(r[0], r[1]), AB = P##_unpackhi_epi8(r[0], r[1]);                           \
        const VECTOR cd = P##_unpacklo_epi8(r[2], r[3]), CD = P##_unpackhi_epi8(r[2], r[3]);                           \
        out[0] = (s32x##N)P##_unpacklo_epi16(ab, cd);                                                                  \
        out[1] = (s32x##N)P##_unpackhi_epi16(ab, cd);                                                                  \
        out[2] = (s32x##N)P##_unpacklo_epi16(AB, CD);                                                                  \
        out[3] = (s32x##N)P##_unpackhi_epi16(AB, CD);                                                                  \
    }
EW_INTERLEAVE(4, __m128i, _mm)
#if EW_MAX_LANES >= 8
EW_INTERLEAVE(8, __m256i, _mm256)
#endif
#if EW_MAX_LANES >= 16
EW_INTERLEAVE(16, __m512i, _mm512)
#endif
#elif defined(__ARM_NEON)
EW_INLINE int16x8_t ew_steps16(s32x4 a, s32x4 b, f32x4 e, f32x4 f, int32_t zero) {
    const int16x4_t low = vqmovn_s32((int32x4_t)EW_STEPS(4, a, e)), high = vqmovn_s32((int32x4_t)EW_STEPS(4, b, f));
    return vqaddq_s16(vcombine_s16(low, high), vdupq_n_s16((int16_t)zero));
}
EW_INLINE void ew_requantize_quad_u8x4(uint8_t *y, s32x4 a, s32x4 b, s32x4 c, s32x4 d, f32x4 e, f32x4 f, f32x4 g,
                                       f32x4 h, int32_t zero) {
    vst1q_u8(y, vcombine_u8(vqmovun_s16(ew_steps16(a, b, e, f, zero)), vqmovun_s16(ew_steps16(c, d, g, h, zero))));
}
EW_INLINE void ew_requantize_quad_s8x4(int8_t *y, s32x4 a, s32x4 b, s32x4 c, s32x4 d, f32x4 e, f32x4 f, f32x4 g,
                                       f32x4 h, int32_t zero) {
    vst1q_s8(y, vcombine_s8(vqmovn_s16(ew_steps16(a, b, e, f, zero)), vqmovn_s16(ew_steps16(c, d, g, h, zero))));
}
EW_INLINE void ew_interleave_x4(s32x4 *out, const void *a, const void *b, const void *c, const void *d) {
    const uint8x16x2_t ab = vzipq_u8(vld1q_u8((const uint8_t *)a), vld1q_u8((const uint8_t *)b));
    const uint8x16x2_t cd = vzipq_u8(vld1q_u8((const uint8_t *)c), vld1q_u8((const uint8_t *)d));
    const uint16x8x2_t low = vzipq_u16(vreinterpretq_u16_u8(ab.val[0]), vreinterpretq_u16_u8(cd.val[0]));
    const uint16x8x2_t high = vzipq_u16(vreinterpretq_u16_u8(ab.val[1]), vreinterpretq_u16_u8(cd.val[1]));
    out[0] = (s32x4)low.val[0];
    out[1] = (s32x4)low.val[1];
    out[2] = (s32x4)high.val[0];
    out[3] = (s32x4)high.val[1];
}
#endif

#endif
